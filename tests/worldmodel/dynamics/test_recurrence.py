import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worldmodel.dynamics.recurrence import Weights, draw, probabilities, step_forward
from worldmodel.dynamics.sequence import recur

T, B, D, H, BLOCKS, GROUPS, CLASSES = 5, 3, 12, 6, 2, 3, 4
Z, WIDTH, UNIFORM = GROUPS * CLASSES, D // BLOCKS, 0.01
SHAPES = Weights(
    *[(D, H), (H,), (H,), (Z, H), (H,), (H,), (3 * H, D), (BLOCKS, WIDTH, WIDTH), (D,), (D,)],
    *[(BLOCKS, WIDTH, 3 * WIDTH), (BLOCKS, 3 * WIDTH), (D, H), (H,), (H, Z), (Z,)],
)


def problem(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    one = {name: 0.5 * normal(*shape) for name, shape in SHAPES._asdict().items()}
    one |= {"state": normal(B, D), "sample": normal(B, Z), "action": normal(T, B, H), "evidence": normal(T, B, H)}
    one = {name: tensor.requires_grad_() for name, tensor in one.items()}
    goes_on = torch.ones(T, B, 1)
    goes_on[2, 0] = goes_on[0, 1] = goes_on[4, 1] = 0
    noise = torch.empty(T, B, CLASSES, GROUPS).exponential_(generator=generator)
    return one | {"goes_on": goes_on, "noise": noise}


def plain_step(p: dict[str, Tensor], t: int, state: Tensor, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One row and one block at a time, in the words of the paper's appendix; the draw is straight through."""

    def layer(x: Tensor, gain: Tensor) -> Tensor:
        return F.silu(F.rms_norm(x, x.shape, gain, eps=1e-4))

    rows = []
    for b in range(B):
        h, z = (state[b], sample[b]) if p["goes_on"][t, b] else (torch.zeros(D), torch.zeros(Z))
        inputs = [
            layer(h @ p["deterministic_in"] + p["deterministic_in_bias"], p["deterministic_in_gain"]),
            layer(z @ p["stochastic_in"] + p["stochastic_in_bias"], p["stochastic_in_gain"]),
            p["action"][t, b],
        ]
        blocks = [slice(g * WIDTH, (g + 1) * WIDTH) for g in range(BLOCKS)]
        mixed = []
        for g, block in enumerate(blocks):  # each block sees itself and all inputs
            weight = torch.cat([p["mix_blocks"][g], p["mix"][:, block]])
            mixed.append(torch.cat([h[block], *inputs]) @ weight)
        mixed = layer(torch.cat(mixed) + p["mix_bias"], p["mix_gain"])
        after = []
        for g, block in enumerate(blocks):
            reset, candidate, update = (mixed[block] @ p["gates"][g] + p["gates_bias"][g]).split(WIDTH)
            candidate = torch.tanh(torch.sigmoid(reset) * candidate)
            update = torch.sigmoid(update - 1)
            after.append(update * candidate + (1 - update) * h[block])
        after = torch.cat(after)
        hidden = layer(after @ p["posterior_in"] + p["evidence"][t, b], p["posterior_in_gain"])
        logits = (hidden @ p["posterior_out"] + p["posterior_out_bias"]).view(CLASSES, GROUPS).T
        chances = (1 - UNIFORM) * logits.softmax(-1) + UNIFORM / CLASSES
        gumbel = -p["noise"][t, b].T.log()
        drawn = F.one_hot((chances.log() + gumbel).argmax(-1), CLASSES)
        rows.append((after, (drawn + chances - chances.detach()).T.flatten(), logits.T))
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))


def plain(p: dict[str, Tensor]) -> list[Tensor]:
    state, sample, steps = p["state"], p["sample"], []
    for t in range(T):
        state, sample, logits = plain_step(p, t, state, sample)
        steps.append((state, sample, logits))
    return [torch.stack(column) for column in zip(*steps, strict=True)]


def at_once(p: dict[str, Tensor], dtype: torch.dtype = torch.float32, compile: bool = False) -> list[Tensor]:
    weights = [p[name] for name in Weights._fields]
    inputs = (p["state"], p["sample"], p["action"], p["evidence"], p["goes_on"], p["noise"])
    return recur(weights, *inputs, UNIFORM, dtype, compile)[:3]


def gradients(outputs: list[Tensor], p: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    total = sum((output * torch.randn(output.shape, generator=generator)).sum() for output in outputs)
    leaves = {name: tensor for name, tensor in p.items() if tensor.requires_grad}
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def test_one_step_is_the_papers():
    p = problem()
    weights = Weights(*(p[name] for name in Weights._fields))
    state, sample, logits, _ = step_forward(
        weights, p["state"], p["sample"], p["action"][2], p["evidence"][2], p["goes_on"][2], p["noise"][2], UNIFORM
    )
    for one, other in zip((state, sample, logits), plain_step(p, 2, p["state"], p["sample"]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_sequence_and_all_its_gradients_are_those_of_automatic_differentiation():
    p = problem()
    slow, fast = plain(p), at_once(p)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    expected = gradients(slow, p)
    for name, gradient in gradients(fast, p).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_a_loss_on_one_of_the_outputs_alone_is_enough(chosen):
    p = problem()
    expected = gradients(plain(p)[chosen : chosen + 1], p) if chosen != 1 else None
    found = gradients(at_once(p)[chosen : chosen + 1], p)
    assert all(gradient.isfinite().all() for gradient in found.values())
    if expected is not None:
        torch.testing.assert_close(found["mix"], expected["mix"], rtol=1e-4, atol=1e-5)


def test_bfloat16_products_come_close_and_sum_their_gradients_in_float32():
    p = problem()
    exact, rough = gradients(at_once(p)[:1], p), gradients(at_once(p, torch.bfloat16)[:1], p)
    for name, gradient in rough.items():
        assert gradient.dtype == torch.float32
        if exact[name].norm() > 0:
            assert (gradient - exact[name]).norm() < 0.2 * exact[name].norm(), name


def test_the_operator_is_what_compilers_are_told_it_is():
    p = problem()
    arguments = ([p[name] for name in Weights._fields], p["state"], p["sample"], p["action"], p["evidence"])
    arguments += (p["goes_on"], p["noise"], UNIFORM, torch.float32, False)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    assert torch.library.opcheck(recur, arguments, test_utils=tests) == dict.fromkeys(tests, "SUCCESS")


def test_draws_follow_their_probabilities():
    torch.manual_seed(0)
    chances = torch.tensor([[0.7, 0.5], [0.2, 0.4], [0.1, 0.1]]).expand(40_000, 3, 2)
    drawn = draw(chances, torch.empty(chances.shape).exponential_())
    assert (drawn.sum(-2) == 1).all()
    torch.testing.assert_close(drawn.mean(0), chances[0], rtol=0, atol=0.01)


def test_every_class_keeps_its_share_of_the_uniform_distribution():
    chances = probabilities(torch.tensor([[100.0], [0.0], [0.0], [0.0]]), 0.01)
    torch.testing.assert_close(chances[:, 0], torch.tensor([0.9925, 0.0025, 0.0025, 0.0025]))
