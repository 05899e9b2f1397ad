import pytest
import torch
from small import inside, model, rollout, seen, stream, weighted_over_time, with_other_unexecuted_actions

from worldmodel import objectives
from worldmodel.objectives import ConsistencyConfig


def consistency(one, steps, **options):
    features = {"embed_dim": 8, "feature_dim": one.feature_dim, "spec": one.spec}
    return objectives.make("consistency", options=options, **features)(one.scene(steps)).losses["consistency"]


@pytest.mark.parametrize("options", [{}, {"weight": 1.5, "decay": 0.9}, {"decay": 1.0}])
def test_it_is_the_squared_error_of_a_plain_rollout(options):
    one, steps = model(), stream()
    config = ConsistencyConfig(**options)
    imagined = rollout(one, steps)
    errors = [
        [(imagined[b][t + 1] - seen(one, steps, b, t + 1).latent[0]).square().mean() for b, t in row]
        for row in inside(steps)
    ]
    expected = config.weight * weighted_over_time(errors, config.decay)
    torch.testing.assert_close(consistency(one, steps, **options), expected)


def test_with_a_horizon_it_is_the_squared_error_of_rollouts_from_every_step():
    one, steps = model(), stream()
    sequences, length, losses = *steps.reward.shape, []
    for k in (1, 2):
        errors = []
        for b in range(sequences):
            for t in range(length - k):
                if steps.is_first[b, t + 1 : t + k + 1].any():
                    continue
                state = seen(one, steps, b, t)
                for ahead in range(k):
                    state = one.dynamics.step(state, steps.action[b : b + 1, t + ahead])
                errors.append((state.latent[0] - seen(one, steps, b, t + k).latent[0]).square().mean())
        losses.append(0.5 ** (k - 1) * torch.stack(errors).mean())
    torch.testing.assert_close(consistency(one, steps, horizon=2), 20 * torch.stack(losses).mean())


def test_with_a_horizon_every_step_teaches_the_encoder():
    one, steps = model(), stream().map(lambda value: value[:1, :2])
    one_episode = steps._replace(is_first=torch.tensor([[True, False]]))
    longer = one_episode.map(lambda value: torch.cat([value, value[:, 1:], value[:, 1:]], dim=1))
    longer.observation["state"] = longer.observation["state"].clone().requires_grad_()
    for horizon, reached in ((None, [True, False, False, False]), (1, [True, True, True, False])):
        longer.observation["state"].grad = None
        consistency(one, longer, horizon=horizon).backward()
        assert longer.observation["state"].grad.any(-1)[0].tolist() == reached


def test_the_papers_numbers_are_the_defaults():
    assert (ConsistencyConfig().weight, ConsistencyConfig().decay) == (20.0, 0.5)


def test_targets_give_no_gradient():
    one, steps = model(), stream().map(lambda value: value[:1, :2])  # within one episode
    steps.observation["state"].requires_grad_()
    consistency(one, steps).backward()
    gradient = steps.observation["state"].grad
    assert gradient[:, 0].any() and not gradient[:, 1].any()
    assert any(p.grad is not None and p.grad.any() for p in one.dynamics.transition.parameters())


def test_actions_that_were_never_executed_change_nothing():
    one, steps = model(), stream()
    assert torch.equal(consistency(one, steps), consistency(one, with_other_unexecuted_actions(steps)))


def test_other_episodes_do_not_matter_beyond_their_own_share():
    one, steps = model(), stream().map(lambda value: value[:, 1:3])
    without = ~steps.is_first[:, 1]
    assert 0 < without.sum() < len(without)
    torch.testing.assert_close(consistency(one, steps), consistency(one, steps.select(without)))
