"""The layers of images, against those of torch."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from agents.execution import obstacle_to_compiling
from worldmodel.nn.images import MaxPool, UpsampledConv2d


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_the_upsampled_convolution_is_doubled_pixels_and_a_convolution_and_so_are_its_gradients(kernel):
    torch.manual_seed(0)
    layer = UpsampledConv2d(3, 5, kernel).double()
    layer.bias.data.normal_()
    x = torch.randn(2, 3, 6, 4, dtype=torch.double).contiguous(memory_format=torch.channels_last).requires_grad_()
    doubled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv2d(doubled, layer.weight, layer.bias, padding=kernel // 2)
    y = layer(x)
    torch.testing.assert_close(y, expected)
    assert y.permute(0, 2, 3, 1).is_contiguous()
    weights = torch.randn_like(y)
    leaves = [x, layer.weight, layer.bias]
    found, wanted = (torch.autograd.grad((weights * z).sum(), leaves) for z in (y, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_pooling_is_the_maximum_and_its_gradient_goes_to_where_it_was():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    y, expected = MaxPool()(x), F.max_pool2d(x, 2)
    assert torch.equal(y, expected)
    weights = torch.randn_like(y)
    found, wanted = (torch.autograd.grad((weights * z).sum(), x)[0] for z in (y, expected))
    torch.testing.assert_close(found, wanted)
    ties = torch.ones(1, 1, 2, 2, requires_grad=True)
    MaxPool()(ties).sum().backward()
    assert torch.equal(ties.grad, torch.full((1, 1, 2, 2), 0.25)), "shared where several are the greatest"


COMPILES = pytest.mark.skipif(
    obstacle_to_compiling(torch.device("cpu"), torch.float32) is not None, reason="torch.compile lacks something here"
)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=COMPILES)])
def test_those_that_are_greatest_together_share_the_gradient(compiled):
    torch.manual_seed(0)
    x = torch.randint(0, 3, (4, 5, 6, 8)).float().contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(4, 5, 3, 4)
    expected = torch.zeros_like(x)
    for n, c, i, j in product(range(4), range(5), range(3), range(4)):
        pixels = {(a, b): float(x.detach()[n, c, a, b]) for a in (2 * i, 2 * i + 1) for b in (2 * j, 2 * j + 1)}
        greatest = [place for place, value in pixels.items() if value == max(pixels.values())]
        for a, b in greatest:
            expected[n, c, a, b] = weights[n, c, i, j] / len(greatest)
    pool = torch.compile(MaxPool(), fullgraph=True) if compiled else MaxPool()
    (found,) = torch.autograd.grad((weights * pool(x)).sum(), x)
    torch.testing.assert_close(found, expected)
