import pytest
import torch
import torch.nn.functional as F
from small import shaken

from worldmodel.nn import EnsembleMLP


def ensemble(dropout: float = 0.0) -> EnsembleMLP:
    torch.manual_seed(0)
    return shaken(EnsembleMLP(4, 5, 6, 2, 3, dropout))


def one_member(network: EnsembleMLP, member: int, x: torch.Tensor) -> torch.Tensor:
    """The member's network written out."""
    for layer in range(network.layers):
        x = F.linear(x, network.weights[layer][member].T, network.biases[layer][member, 0])
        x = F.layer_norm(x, x.shape[-1:], network.gains[layer][member, 0], network.shifts[layer][member, 0])
        x = F.mish(x)
    return F.linear(x, network.weights[-1][member].T, network.biases[-1][member, 0])


@pytest.mark.parametrize("members", [None, [2], [3, 0], [1, 1]])
def test_an_ensemble_is_its_members_one_by_one(members):
    network, x = ensemble(), torch.randn(7, 5)
    index = None if members is None else torch.tensor(members)
    expected = torch.stack([one_member(network, m, x) for m in (members or range(4))])
    torch.testing.assert_close(network(x, index), expected)
    torch.testing.assert_close(network(x, index, frozen=True), expected)


@pytest.mark.parametrize("members", [None, [3, 0]])
def test_gradients_are_those_of_the_members_and_a_frozen_ensemble_passes_them_to_its_input_alone(members):
    network = ensemble()
    index = None if members is None else torch.tensor(members)
    x, other, frozen = (torch.ones(7, 5).mul(0.3).requires_grad_() for _ in range(3))
    network(x, index).square().sum().backward()
    found = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    torch.stack([one_member(network, m, other) for m in (members or range(4))]).square().sum().backward()
    torch.testing.assert_close(found, [p.grad for p in network.parameters()])
    network.zero_grad()
    network(frozen, index, frozen=True).square().sum().backward()
    torch.testing.assert_close(x.grad, other.grad)
    torch.testing.assert_close(frozen.grad, other.grad)
    assert all(p.grad is None for p in network.parameters())


def test_dropout_acts_in_training_alone_follows_the_first_linear_and_differs_between_members():
    network, x = ensemble(dropout=0.5), torch.randn(200, 5)
    plain = torch.stack([one_member(network, m, x) for m in range(4)])
    network.eval()
    torch.testing.assert_close(network(x), plain)
    network.train()
    torch.testing.assert_close(network(x, frozen=True), plain)
    assert not torch.allclose(network(x), plain)
    with torch.no_grad():
        for tensors in (network.weights, network.biases, network.gains, network.shifts):
            for tensor in tensors:
                tensor.copy_(tensor[:1].expand_as(tensor).clone())
    alike = network(x)
    assert not torch.allclose(alike[0], alike[1])
    # A first layer of zeros leaves nothing to drop there: a dropout behind the second layer would show.
    with torch.no_grad():
        network.weights[0].zero_()
        network.biases[0].zero_()
    assert torch.equal(network(x)[0], network(x)[1])


def test_a_fresh_ensemble_predicts_zero_and_its_members_differ_inside():
    torch.manual_seed(0)
    network = EnsembleMLP(3, 50, 60, 2, 4)
    assert not network(torch.randn(7, 50)).any()
    assert network.weights[0].std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(network.weights[1][0], network.weights[1][1])
