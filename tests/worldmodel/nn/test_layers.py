import pytest
import torch
import torch.nn.functional as F

from worldmodel.nn import SimNorm, hidden_layers, mish, readout
from worldmodel.nn.layers import dropout, keep_mask


def test_the_compiled_formula_of_mish_is_mish_and_so_is_its_gradient(monkeypatch):
    x = torch.cat([torch.linspace(-30, 30, 2001), torch.tensor([-1e4, -100.0, 0.0, 19.99, 20.01, 100.0, 1e4])])
    expected = x.double().requires_grad_()
    F.mish(expected).sum().backward()
    x.requires_grad_()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    value = mish(x)
    value.sum().backward()
    torch.testing.assert_close(value.double(), F.mish(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), expected.grad, rtol=1e-4, atol=1e-5)
    assert mish(torch.ones(2, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("probability", [0.01, 0.3])
def test_dropout_zeroes_its_share_and_keeps_the_mean(probability):
    torch.manual_seed(0)
    kept = keep_mask(torch.ones(1000, 401), probability)
    assert kept.shape == (1000, 401) and kept.dtype is torch.bool
    error = (probability * (1 - probability) / kept.numel()) ** 0.5
    assert (~kept).float().mean().item() == pytest.approx(probability, abs=5 * error + 1 / 65536)
    # No column (the place within the four entries that share a random number) and no neighbour is favoured.
    by_place = (~kept).flatten()[: kept.numel() // 4 * 4].view(-1, 4).float()
    assert by_place.mean(0).tolist() == pytest.approx([probability] * 4, abs=10 * error + 1 / 65536)
    together = (by_place[:, 0] * by_place[:, 1]).mean().item()
    assert together == pytest.approx(probability**2, abs=10 * error * probability + 2e-4)

    out = dropout(torch.ones(1000, 401), probability)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / (1 - probability)).item()}
    assert out.mean().item() == pytest.approx(1.0, abs=5 * error / (1 - probability) + 1e-3)


@pytest.mark.parametrize("shape", [[1], [3], [5, 1], [2, 3, 7]])
def test_dropout_takes_any_shape_and_type(shape):
    assert keep_mask(torch.ones(shape), 0.0).all() and keep_mask(torch.ones(shape), 0.0).shape == torch.Size(shape)
    x = torch.randn(shape, dtype=torch.bfloat16, requires_grad=True)
    out = dropout(x, 0.5)
    assert out.shape == x.shape and out.dtype is torch.bfloat16
    out.sum().backward()
    assert torch.equal(x.grad, torch.where(out == 0, 0.0, 2.0).to(torch.bfloat16))


def test_simnorm_is_a_softmax_within_groups():
    x = 4 * torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    out = SimNorm(8)(x)
    for group in range(3):
        torch.testing.assert_close(out[..., group::3], x[..., group::3].softmax(-1))
        torch.testing.assert_close(out[..., group::3].sum(-1), torch.ones(3, 5))
    assert SimNorm(8)(x.bfloat16()).dtype is torch.float32


def test_a_readout_of_the_first_kind_is_linear_norm_mish_and_a_plain_linear():
    torch.manual_seed(0)
    network, x = readout(3, 7, 2, 5, "layernorm-mish"), torch.randn(4, 3)
    expected = x
    for layer in network[:2]:
        linear = expected @ layer.linear.weight.T + layer.linear.bias
        centred = linear - linear.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        expected = F.mish(normal * layer.norm.weight + layer.norm.bias)
    expected = expected @ network[2].weight.T + network[2].bias
    torch.testing.assert_close(network(x), expected)


def test_initial_weights_are_normal_with_a_std_of_a_fiftieth_and_biases_zero():
    torch.manual_seed(0)
    network = readout(100, 200, 2, 50, "layernorm-mish")
    for linear in (network[0].linear, network[1].linear, network[2]):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not linear.bias.any()


def test_dreamers_layer_is_linear_then_rms_norm_then_silu():
    torch.manual_seed(0)
    layer, x = hidden_layers(3, 7, 1, "rmsnorm-silu")[0], torch.randn(4, 3)
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2)
    hidden = x @ layer.linear.weight.T + layer.linear.bias
    normed = hidden / (hidden.pow(2).mean(-1, keepdim=True) + 1e-4).sqrt() * layer.norm.weight
    torch.testing.assert_close(layer(x), normed / (1 + torch.exp(-normed)))


def test_dreamers_weights_are_drawn_by_fan_in_cut_at_two_deviations_and_scaled_at_the_end():
    torch.manual_seed(0)
    network = readout(400, 300, 2, 200, "rmsnorm-silu", scale=0.5)
    for linear, scale in ((network[0].linear, 1.0), (network[1].linear, 1.0), (network[2], 0.5)):
        std = scale * linear.in_features**-0.5
        assert abs(linear.weight.std().item() / std - 1) < 0.02
        assert 2.2 * std < linear.weight.abs().max().item() < 2.28 * std
        assert not linear.bias.any()


def test_a_layer_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="no layer 'relu': choose layernorm-mish or rmsnorm-silu"):
        hidden_layers(3, 7, 1, "relu")
