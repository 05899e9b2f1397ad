import math

import pytest
import torch
from small import two_hot, two_hot_loss

from worldmodel.heads import BinsConfig
from worldmodel.nn import TwoHot, symexp, symlog


def test_symexp_undoes_symlog_and_symlog_is_odd():
    x = torch.tensor([0.0, 1e-6, 0.5, 1.0, 30.0, 20000.0])
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-5, atol=0)
    assert torch.equal(symlog(-x), -symlog(x))
    assert symlog(torch.tensor(math.e - 1)).item() == pytest.approx(1.0)


@pytest.mark.parametrize("bins", [BinsConfig(), BinsConfig(11, -3.0, 3.0), BinsConfig(2, -1.0, 4.0)])
def test_encoding_is_two_neighbours_and_the_loss_their_cross_entropy(bins):
    head = TwoHot(bins.bins, bins.low, bins.high)
    values = torch.tensor([0.0, 0.3, -0.3, 1.0, -7.5, 123.4, -1e4, 1e9, -1e9, math.expm1(bins.high)])
    encoded = head.encode(values)
    torch.testing.assert_close(encoded, torch.stack([two_hot(v, bins) for v in values.tolist()]), atol=2e-5, rtol=0)
    torch.testing.assert_close(encoded.sum(-1), torch.ones(len(values)))
    assert ((encoded > 0).sum(-1) <= 2).all()

    logits = 3 * torch.randn(4, len(values), bins.bins, generator=torch.Generator().manual_seed(0))
    slow = torch.stack(
        [
            torch.stack([two_hot_loss(row, v, bins) for row, v in zip(one, values.tolist(), strict=True)])
            for one in logits
        ]
    )
    torch.testing.assert_close(head.loss(logits, values), slow, atol=3e-4, rtol=1e-4)


def test_decoding_the_logarithm_of_an_encoding_gives_the_value_back():
    head, values = TwoHot(), torch.linspace(-9, 9, 77)
    values = symexp(values)
    torch.testing.assert_close(head.decode(head.encode(values).log()), values, rtol=1e-3, atol=1e-4)


def test_equal_logits_decode_to_nothing_and_float32_whatever_comes():
    head = TwoHot()
    logits = torch.zeros(3, 101, dtype=torch.bfloat16)
    assert head.decode(logits).dtype is torch.float32
    torch.testing.assert_close(head.decode(logits), torch.zeros(3), atol=1e-4, rtol=0)
    assert head.loss(logits, torch.ones(3)).dtype is torch.float32
    torch.testing.assert_close(head.loss(logits, torch.ones(3)), torch.full((3,), math.log(101)))


def test_the_least_cross_entropy_is_at_the_encoding():
    head, logits = TwoHot(11, -3.0, 3.0), torch.zeros(11, requires_grad=True)
    value = torch.tensor(2.7)
    (gradient,) = torch.autograd.grad(head.loss(logits, value), logits)
    torch.testing.assert_close(gradient, torch.full((11,), 1 / 11) - head.encode(value))


def test_bins_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="at least 2 bins"):
        TwoHot(1)
    with pytest.raises(ValueError, match="low < high"):
        TwoHot(11, 3.0, 3.0)


RAW = {"bins": 255, "low": -20.0, "high": 20.0, "expectation": "raw"}


def test_raw_bins_lie_at_the_symexp_of_even_ones_and_encode_between_neighbours():
    head = TwoHot(**RAW)
    torch.testing.assert_close(head.centres, symexp(torch.linspace(-20, 20, 255)), rtol=1e-4, atol=1e-6)
    values = torch.tensor([0.0, 0.3, -0.3, 1.0, -7.5, 123.4, -1e4, 3e8])
    encoded, centres = head.encode(values), head.centres.tolist()
    for row, value in zip(encoded, values.tolist(), strict=True):
        below = max(k for k in range(255) if centres[k] <= value * (1 + 1e-6) + 1e-9)
        share = (value - centres[below]) / (centres[below + 1] - centres[below])
        expected = torch.zeros(255)
        expected[below], expected[below + 1] = 1 - share, share
        torch.testing.assert_close(row, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close((encoded.double() * head.centres.double()).sum(-1).float(), values, rtol=1e-3, atol=1e-4)
    assert torch.equal(head.encode(torch.tensor([1e30, -1e30])).argmax(-1), torch.tensor([254, 0]))


def test_symmetric_logits_decode_to_exactly_nothing_though_raw_bins_are_huge():
    head = TwoHot(**RAW)
    assert not head.decode(torch.zeros(3, 255)).any()
    logits = torch.randn(5, 255)
    assert not head.decode(logits + logits.flip(-1)).any()


def test_raw_decoding_is_the_expectation():
    head = TwoHot(**RAW)
    values = torch.tensor([0.0, 0.02, -3.0, 250.0, -1e5])
    torch.testing.assert_close(head.decode(head.encode(values).log()), values, rtol=1e-3, atol=1e-4)


def test_an_expectation_in_an_unknown_space_is_refused():
    with pytest.raises(ValueError, match="'log' space: choose symlog or raw"):
        TwoHot(expectation="log")
