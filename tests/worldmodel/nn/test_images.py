"""The layers of images, against those of torch."""

import pytest
import torch
import torch.nn.functional as F

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
