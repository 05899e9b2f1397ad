import pytest
import torch
from torch import nn

from agents.optimisers import LaProp, Optimiser, OptimiserConfig, clip_adaptively

DREAMER = OptimiserConfig("laprop", learning_rate=1e-2, warmup=4, beta1=0.7, beta2=0.9, eps=1e-20, clip=None)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 2))


def backward(module: nn.Module, seed: int) -> None:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed))
    module(x).square().sum().backward()


def test_laprop_is_momentum_on_gradients_divided_by_their_second_moment():
    one, other = network(), network().double()
    optimiser = Optimiser(one, DREAMER, torch.zeros(()))
    momentum, square = {}, {}
    for update in range(1, 7):
        backward(one, update)
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(update))
        gradients = torch.autograd.grad(other(x.double()).square().sum(), list(other.parameters()))
        optimiser.step(update - 1)
        rate = 1e-2 * min(1.0, update / 4)
        for (name, p), g in zip(other.named_parameters(), gradients, strict=True):
            square[name] = 0.9 * square.get(name, 0) + 0.1 * g**2
            normed = g / (square[name] / (1 - 0.9**update)).sqrt()
            momentum[name] = 0.7 * momentum.get(name, 0) + 0.3 * normed
            p.data -= rate * momentum[name] / (1 - 0.7**update)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.double(), q, rtol=1e-4, atol=1e-5)
        assert p.grad is None


def test_the_first_step_of_laprop_is_one_learning_rate_for_every_weight():
    one, before = network(), network()
    backward(one, 1)
    Optimiser(one, OptimiserConfig("laprop", learning_rate=1e-3, eps=1e-20, clip=None), torch.zeros(())).step(0)
    for p, q in zip(one.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close((p - q).abs(), torch.full_like(p, 1e-3), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("algorithm", ["adam", "laprop"])
def test_a_step_that_is_found_bad_changes_nothing(algorithm):
    one, found_inf = network(), torch.zeros(())
    optimiser = Optimiser(one, OptimiserConfig(algorithm), found_inf)
    backward(one, 1)
    optimiser.step(0)
    before = [p.detach().clone() for p in one.parameters()]
    state = [{k: v.clone() for k, v in optimiser.algorithm.state[p].items()} for p in one.parameters()]
    backward(one, 2)
    one[0].weight.grad[0, 0] = float("nan")
    found_inf.fill_(1)
    optimiser.step(1)
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))
    for p, kept in zip(one.parameters(), state, strict=True):
        found = optimiser.algorithm.state[p]
        assert all(torch.equal(found[name], kept[name]) for name in kept if name != "step")


def test_adaptive_clipping_keeps_each_tensors_gradient_within_its_share():
    one = network()
    with torch.no_grad():
        one[2].bias.zero_()
    backward(one, 1)
    one[0].bias.grad.mul_(1e-6)
    before = {name: p.grad.clone() for name, p in one.named_parameters()}
    clip_adaptively(list(one.parameters()), 0.3)
    clipped = 0
    for name, p in one.named_parameters():
        limit = 0.3 * max(p.norm().item(), 1e-3)
        scale = min(1.0, limit / before[name].norm().item())
        clipped += scale < 1
        torch.testing.assert_close(p.grad, before[name] * scale)
    assert 0 < clipped < 4, "the test is about both cases"


def test_norms_are_those_from_before_the_clipping():
    one = network()
    backward(one, 1)
    expected = torch.cat([p.grad.flatten() for p in one.parameters()]).norm()
    config = OptimiserConfig("laprop", clip=None, adaptive_clip=0.01)
    norms = Optimiser(one, config, torch.zeros(())).clip()
    torch.testing.assert_close(norms["model"], expected)
    assert not any(p.grad.requires_grad for p in one.parameters()), "clipping has no graph of its own"


def test_an_optimiser_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="no optimiser 'lamb': choose adam or laprop"):
        OptimiserConfig("lamb")


def test_weights_without_a_gradient_stay_and_cost_nothing():
    one = network()
    optimiser = LaProp(one.parameters(), 1e-3, (0.9, 0.999), 1e-20)
    optimiser.step()
    assert not optimiser.state


def test_parts_of_one_matrix_are_clipped_as_the_whole():
    """DreamerV3's posterior and mixing matrices are cut in two for speed; the reference code has them whole."""
    torch.manual_seed(0)
    whole = nn.Linear(6, 4, bias=False)

    class Halves(nn.Module):
        cut_matrices = (("first", "second"),)

        def __init__(self) -> None:
            super().__init__()
            first, second = whole.weight.detach().split([2, 4], dim=1)
            self.first, self.second = nn.Parameter(first.clone()), nn.Parameter(second.clone())

        def forward(self, x):
            return x[:, :2] @ self.first.t() + x[:, 2:] @ self.second.t()

    halves, x = Halves(), torch.randn(8, 6) * torch.tensor([9.0, 9, 1, 1, 1, 1])
    for module in (whole, halves):
        module(x).square().sum().backward()
        Optimiser(module, OptimiserConfig("laprop", clip=None, adaptive_clip=0.3), torch.zeros(())).clip()
    torch.testing.assert_close(torch.cat([halves.first.grad, halves.second.grad], dim=1), whole.weight.grad)
    assert whole.weight.grad.norm().item() == pytest.approx(0.3 * whole.weight.norm().item(), rel=1e-5)
