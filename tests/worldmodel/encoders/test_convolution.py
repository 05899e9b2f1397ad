import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces

from worldmodel import encoders
from worldmodel.data import Spec
from worldmodel.encoders import ConvolutionalEncoderConfig, SeveralEncoderConfig, VectorEncoderConfig


def image_space(side: int = 16, channels: int = 3, width: int | None = None) -> spaces.Box:
    return spaces.Box(0, 255, (side, width or side, channels), np.uint8)


def spec_of(**entries) -> Spec:
    return Spec.from_spaces(spaces.Dict(entries), spaces.Box(-1, 1, (2,)))


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(spec: Spec, **options):
    torch.manual_seed(0)
    return encoders.make("convolutional", options={"depth": 2} | options, spec=spec)


def test_it_is_convolution_maximum_norm_and_silu_until_the_side_is_four():
    one, x = make(spec_of(camera=image_space(16))), images(5, 16, 16, 3)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    y = x.permute(0, 3, 1, 2).float() / 255 - 0.5
    for convolution, norm in ((one.layers[0], one.layers[2]), (one.layers[3], one.layers[5])):
        y = F.conv2d(y, convolution.weight, convolution.bias, padding=2)
        y = torch.stack([y[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        size = (y.square().mean(1, keepdim=True) + 1e-4).sqrt()
        y = F.silu(y / size * norm.norm.weight.view(1, -1, 1, 1))
    assert y.shape == (5, 8, 4, 4)
    torch.testing.assert_close(one({"camera": x}), y.permute(0, 2, 3, 1).flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "channels"), [(8, [8]), (16, [8, 8]), (32, [6, 8, 8]), (64, [4, 6, 8, 8]), (128, [4, 4, 6, 8, 8])]
)
def test_any_side_that_is_four_times_a_power_of_two_is_read(side, channels):
    one = make(spec_of(camera=image_space(side)))
    assert [layer.out_channels for layer in one.layers[::3]] == channels
    assert one.embed_dim == 4 * 4 * channels[-1]
    assert one({"camera": images(2, 3, side, side, 3)}).shape == (2, 3, one.embed_dim)


def test_several_images_are_stacked_along_their_channels():
    one = make(spec_of(left=image_space(16, 3), right=image_space(16, 1)))
    assert one.layers[0].in_channels == 4
    left, right = images(2, 16, 16, 3), images(2, 16, 16, 1)
    before = one({"left": left, "right": right})
    assert not torch.equal(before, one({"left": left, "right": 255 - right}))
    assert not torch.equal(before, one({"left": 255 - left, "right": right}))


def test_channels_lie_last_in_memory_throughout():
    one, seen = make(spec_of(camera=image_space(32))), []
    for layer in one.layers:
        layer.register_forward_hook(lambda m, i, out: seen.append(out.is_contiguous(memory_format=torch.channels_last)))
    one({"camera": images(3, 32, 32, 3)})
    assert len(seen) == 9 and all(seen)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"camera": image_space(48)}, "'camera' is 48 × 48: give an image_size of those"),
        ({"camera": image_space(64, width=32)}, "'camera' is 64 × 32"),
        ({"camera": image_space(4)}, "sides? .*'camera' is 4 × 4|side 8, 16.*'camera' is 4 × 4"),
        ({"pose": spaces.Box(-1, 1, (3,))}, "'pose' is a vector of 3 numbers"),
        ({"a": image_space(16), "b": image_space(32)}, r"images of one size, but the observation has sides \[16, 32\]"),
    ],
)
def test_what_it_cannot_read_is_refused(entries, words):
    with pytest.raises(ValueError, match=words):
        make(spec_of(**entries))


def test_images_and_vectors_are_read_each_by_its_own():
    spec = spec_of(camera=image_space(16), pose=spaces.Box(-1, 1, (3,)))
    config = SeveralEncoderConfig(ConvolutionalEncoderConfig(depth=2), VectorEncoderConfig(units=8))
    torch.manual_seed(0)
    one = encoders.make(config, spec=spec)
    observation = {"camera": images(4, 16, 16, 3), "pose": torch.randn(4, 3)}
    embedding = one(observation)
    assert one.embed_dim == 128 + 8 and embedding.shape == (4, 136)
    torch.testing.assert_close(embedding[:, :128], one.parts["images"](observation))
    torch.testing.assert_close(embedding[:, 128:], one.parts["vectors"](observation))


@pytest.mark.parametrize(
    ("entries", "parts"),
    [({"camera": image_space(16)}, ["images"]), ({"pose": spaces.Box(-1, 1, (3,))}, ["vectors"])],
)
def test_only_what_there_is_gets_an_encoder(entries, parts):
    assert list(encoders.make("several", spec=spec_of(**entries)).parts) == parts
