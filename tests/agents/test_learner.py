import dataclasses

import pytest
import torch
from gymnasium import spaces
from tiny import PLAIN, TINY, batch, tiny_agent

import agents
from agents.execution import Execution, ExecutionConfig
from agents.learner import Learner, NonFiniteLossError
from agents.optimisers import OptimiserConfig, ParameterGroupConfig
from worldmodel.data import Spec

SPEC = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))


class Tasks:
    single_observation_space, single_action_space = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))
    episode_length = 100


def learner(config: OptimiserConfig | None = None, seed: int = 0, execution=PLAIN) -> Learner:
    agent = tiny_agent(Tasks(), seed)
    return Learner(agent, config or agent.recipe.optimiser, Execution(execution), total_updates=10)


def tensors(one: Learner) -> dict[str, torch.Tensor]:
    """Everything that an update changes."""
    return {k: v.clone() for k, v in (one.agent.state_dict() | one.state_dict()).items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def gradients(agent, steps) -> dict[str, torch.Tensor]:
    agent.train()
    agent(steps).total.backward()
    found = {name: p.grad.double() for name, p in agent.named_parameters() if p.grad is not None}
    agent.zero_grad()
    return found


def test_an_update_is_adam_with_its_groups_each_clipped_by_its_own_norm():
    encoder = ParameterGroupConfig(("model.encoder.", "model.dynamics.posterior."), learning_rate_scale=0.25)
    policy = ParameterGroupConfig(("behaviour.policy.",), eps=1e-4, clips_apart=True)
    config = OptimiserConfig(learning_rate=1e-2, beta1=0.7, beta2=0.9, eps=1e-3, clip=1e-3, groups=(encoder, policy))
    one = learner(config)
    # Adam by hand, in double precision, on the gradients of a second, equal agent.
    agent = learner(config).agent
    first, second = {}, {}
    for update in range(1, 4):
        steps = batch(SPEC, seed=update)
        torch.manual_seed(update)
        grads = gradients(agent, steps)
        torch.manual_seed(update)
        metrics = one.update(steps)

        apart = {name for name in grads if name.startswith("behaviour.policy.")}
        for names, key in ((apart, "policy"), (grads.keys() - apart, "model")):
            norm = torch.stack([grads[name].square().sum() for name in names]).sum().sqrt()
            assert norm > config.clip, "the test is about clipping"
            assert metrics[f"gradient_norm_{key}"].item() == pytest.approx(norm.item(), rel=1e-3)
            for name in names:
                grads[name] = grads[name] * config.clip / norm
        updated = {}
        for name, grad in grads.items():
            slow = name.startswith(("model.encoder.", "model.dynamics.posterior."))
            rate, eps = config.learning_rate * (0.25 if slow else 1.0), 1e-4 if name in apart else 1e-3
            first[name] = 0.7 * first.get(name, 0.0) + 0.3 * grad
            second[name] = 0.9 * second.get(name, 0.0) + 0.1 * grad.square()
            mean, square = first[name] / (1 - 0.7**update), second[name] / (1 - 0.9**update)
            updated[name] = agent.get_parameter(name).double() - rate * mean / (square.sqrt() + eps)
        for name, value in updated.items():
            torch.testing.assert_close(one.agent.get_parameter(name).double(), value, rtol=0, atol=2e-6)
        agent.load_state_dict(one.agent.state_dict())


def test_after_an_update_targets_move_and_no_gradient_is_left():
    one = learner()
    before = tensors(one)
    one.update(batch(SPEC))
    after, rate = tensors(one), one.agent.behaviour.config.target_rate
    name = "network.weights.2"
    moved = torch.lerp(before[f"behaviour.target_critic.{name}"], after[f"behaviour.critic.{name}"], rate)
    torch.testing.assert_close(after[f"behaviour.target_critic.{name}"], moved)
    assert all(p.grad is None for p in one.agent.parameters())


def test_progress_runs_from_nothing_to_one(monkeypatch):
    one, seen = learner(), []
    monkeypatch.setattr(one.agent, "after_update", lambda pending, progress: seen.append(progress))
    for _ in range(12):
        one.update(batch(SPEC))
    assert seen == pytest.approx([k / 10 for k in range(1, 11)] + [1.0, 1.0])


@pytest.mark.parametrize("earlier_updates", [0, 2])
def test_a_loss_that_is_not_finite_is_named_and_changes_nothing(earlier_updates):
    one = learner()
    for update in range(earlier_updates):
        one.update(batch(SPEC, seed=update))
    before = tensors(one)
    steps = batch(SPEC)
    with pytest.raises(NonFiniteLossError, match="reward") as caught:
        one.update(steps._replace(reward=steps.reward * float("nan")))
    assert "\n" not in str(caught.value)
    assert f"update {earlier_updates + 1}" in str(caught.value)
    after = tensors(one)
    assert {k for k in after if k not in before} <= {
        k for k in after if k.endswith(("/step", "/exp_avg", "/exp_avg_sq"))
    }
    assert all(not after[k].any() for k in after.keys() - before.keys())
    assert_equal(before, {k: after[k] for k in before})


def test_a_gradient_that_is_not_finite_is_named_though_the_losses_are_finite(monkeypatch):
    one = learner()
    one.update(batch(SPEC))
    before = tensors(one)
    weight = one.agent.behaviour.policy.network[-1].weight

    real = one._loss

    def forward(steps):
        # The square root's gradient at zero is infinite, and infinity times zero is not a number.
        losses = real(steps)
        return losses._replace(total=losses.total + (weight * 0).sum().sqrt())

    monkeypatch.setattr(one, "_loss", forward)
    with pytest.raises(NonFiniteLossError, match="gradient of the policy") as caught:
        one.update(batch(SPEC))
    assert "gradient of the model" not in str(caught.value)
    assert "value" not in str(caught.value)
    assert_equal(before, tensors(one))


def test_a_saved_learner_goes_on_as_if_it_had_never_stopped():
    one, other = learner(seed=0), learner(seed=1)
    for update in range(3):
        one.update(batch(SPEC, seed=update))
    other.agent.load_state_dict(one.agent.state_dict())
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for each in (one, other):
        torch.manual_seed(5)
        for update in range(3):
            each.update(batch(SPEC, seed=10 + update))
    assert one.updates == other.updates == 6
    assert_equal(tensors(one), tensors(other))


def test_laprop_goes_on_counting_on_the_cpu_so_that_no_update_waits_for_a_gpu():
    one = learner(OptimiserConfig(algorithm="laprop"))
    one.update(batch(SPEC))
    saved = {name: value.clone() for name, value in one.state_dict().items()}
    one.agent.to("meta")  # in a GPU's place: a device whose tensors cannot be read
    one.load_state_dict(saved)
    states = [one.optimiser.algorithm.state[parameter] for parameter in one.agent.parameters()]
    found = [(state["step"], state["momentum"].device.type) for state in states if state]
    assert found and all(float(step) == 1 and device == "meta" for step, device in found)


def test_a_prefix_that_fits_no_parameter_is_refused_in_a_sentence():
    config = OptimiserConfig(groups=(ParameterGroupConfig(("model.encodr.",)),))
    with pytest.raises(ValueError, match=r"'model\.encodr\.'.*model\.encoder") as caught:
        learner(config)
    assert "\n" not in str(caught.value)


def test_every_parameter_that_learns_is_in_exactly_one_group():
    one = learner()
    held = [id(p) for group in one.optimiser.algorithm.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in one.agent.parameters() if p.requires_grad)
    clipped = [id(p) for group in one.optimiser._clipped.values() for p in group]
    assert sorted(clipped) == sorted(held)


@pytest.mark.parametrize("kind", ["tdmpc2", "dreamerv3"])
def test_in_bfloat16_that_is_not_compiled_every_parameter_has_its_gradient(kind, monkeypatch):
    # Until torch 2.10, what was cast without gradient first was used without gradient ever after.
    spec = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
    found = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        one = agents.Agent(TINY[kind]().agent, spec, episode_length=20)
        execution = Execution(dataclasses.replace(PLAIN, precision=precision))
        learner, kept = Learner(one, OptimiserConfig(), execution, 10), {}
        clip = learner.optimiser.clip

        def watched(clip=clip, one=one, kept=kept):
            kept.update({name: p.grad for name, p in one.named_parameters() if p.requires_grad})
            return clip()

        monkeypatch.setattr(learner.optimiser, "clip", watched)
        learner.update(batch(spec, size=16, length=5))
        found[precision] = {name for name, gradient in kept.items() if gradient is not None}
    assert found["bfloat16"] == found["float32"] and any("policy" in name for name in found["float32"])


def test_bfloat16_gives_nearly_the_losses_of_float32_and_float32_weights():
    single, half = learner(), learner(execution=dataclasses.replace(PLAIN, precision="bfloat16"))
    steps = batch(SPEC, size=64)
    losses = []
    for one in (single, half):
        torch.manual_seed(3)
        losses.append(one.update(steps))
        assert {p.dtype for p in one.agent.parameters()} == {torch.float32}
    names = ("consistency", "reward", "continuation", "value", "policy")
    assert any(losses[0][name].item() != losses[1][name].item() for name in names), "bfloat16 was not used"
    for name in names:
        assert losses[1][name].dtype is torch.float32
        assert losses[1][name].item() == pytest.approx(losses[0][name].item(), rel=0.02, abs=2e-3)
    assert ExecutionConfig().precision == "auto"
