import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel import decoders, encoders
from worldmodel.data import Spec
from worldmodel.decoders import ImageDecoderConfig, SeveralDecoderConfig, VectorDecoderConfig


def spec_of(**entries) -> Spec:
    return Spec.from_spaces(spaces.Dict(entries), spaces.Box(-1, 1, (2,)))


def camera(side: int = 16, channels: int = 3) -> spaces.Box:
    return spaces.Box(0, 255, (side, side, channels), np.uint8)


def make(spec: Spec, deterministic_dim: int = 8, **options):
    torch.manual_seed(0)
    sizes = {"feature_dim": 14, "deterministic_dim": deterministic_dim}
    return decoders.make("image", options={"depth": 2, "units": 8, "blocks": 2} | options, spec=spec, **sizes)


@pytest.mark.parametrize("side", [8, 16, 64])
@pytest.mark.parametrize("deterministic_dim", [0, 8])
def test_images_are_named_and_shaped_as_the_observation_and_within_its_range(side, deterministic_dim):
    one = make(spec_of(left=camera(side), right=camera(side, 1)), deterministic_dim)
    decoded = one(5 * torch.randn(2, 3, 14))
    shapes = {name: value.shape for name, value in decoded.items()}
    assert shapes == {"left": (2, 3, side, side, 3), "right": (2, 3, side, side, 1)}
    assert all(value.dtype is torch.float32 and value.min() >= 0 and value.max() <= 255 for value in decoded.values())


def test_the_error_is_squared_and_summed_over_pixels_and_channels():
    one, features = make(spec_of(camera=camera())), torch.randn(2, 3, 14)
    truth = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8)
    expected = ((one(features)["camera"] - truth) / 255).square().sum((-3, -2, -1))
    torch.testing.assert_close(one.loss(features, {"camera": truth}), expected, rtol=1e-4, atol=1e-3)


def test_a_block_of_deterministic_features_draws_its_own_channels_of_the_smallest_map():
    one, features, maps = make(spec_of(camera=camera())), torch.randn(1, 14), []
    one.layers.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    one(features)
    for block in range(2):
        other = features.clone()
        other[:, 6 + 4 * block : 10 + 4 * block] += 1  # the last 8 features are deterministic, in two blocks
        one(other)
        changed = (maps[-1] != maps[0]).any(dim=(0, 2, 3)).split(4)
        assert [part.any().item() for part in changed] == [block == 0, block == 1]
    other = features.clone()
    other[:, :6] += 1
    one(other)
    assert (maps[-1] != maps[0]).all()


def test_a_camera_that_sees_a_spot_is_learned_by_heart():
    spec = spec_of(camera=camera(8, 1))
    torch.manual_seed(0)
    encoder = encoders.make("convolutional", options={"depth": 8}, spec=spec)
    sizes = {"feature_dim": encoder.embed_dim, "deterministic_dim": 0}
    decoder = decoders.make("image", options={"depth": 8, "units": 32}, spec=spec, **sizes)
    images = torch.zeros(16, 8, 8, 1, dtype=torch.uint8)
    for i in range(16):
        images[i, 2 * (i // 4) : 2 * (i // 4) + 2, 2 * (i % 4) : 2 * (i % 4) + 2] = 255
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    for _ in range(150):
        loss = decoder.loss(encoder({"camera": images}), {"camera": images}).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.4, "knowing nothing but the mean leaves 3.75"
    found = decoder(encoder({"camera": images}))["camera"].flatten(1).argmax(1)
    assert (images.flatten(1)[torch.arange(16), found] == 255).all()


def test_images_and_vectors_are_decoded_each_by_its_own_and_their_errors_added():
    spec = spec_of(pose=spaces.Box(-1, 1, (3,)), camera=camera())
    config = SeveralDecoderConfig(ImageDecoderConfig(depth=2, units=8, blocks=2), VectorDecoderConfig(units=8))
    torch.manual_seed(0)
    one = decoders.make(config, spec=spec, feature_dim=14, deterministic_dim=8)
    features = torch.randn(4, 14)
    truth = {"pose": torch.randn(4, 3), "camera": torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)}
    parts = [part.loss(features, truth) for part in one.parts.values()]
    assert len(parts) == 2
    torch.testing.assert_close(one.loss(features, truth), parts[0] + parts[1])
    assert list(one(features)) == list(spec.observation)


def test_blocks_that_divide_nothing_are_refused():
    with pytest.raises(ValueError, match="blocks=5 must divide the 8 deterministic features"):
        make(spec_of(camera=camera()), blocks=5)


def test_cross_entropy_is_that_of_every_entry():
    spec = spec_of(image=camera(8))
    torch.manual_seed(0)
    config = ImageDecoderConfig(depth=4, multipliers=(1,), kernel=3, units=8, error="cross-entropy")
    decoder, features = decoders.make(config, spec=spec, feature_dim=5), torch.randn(2, 3, 5)
    images = torch.randint(0, 256, (2, 3, 8, 8, 3)).byte()
    shown = decoder(features)["image"].double() / 255
    target = images.double() / 255
    expected = -(target * shown.log() + (1 - target) * (1 - shown).log()).sum((-3, -2, -1))
    torch.testing.assert_close(decoder.loss(features, {"image": images}).double(), expected, rtol=1e-4, atol=1e-4)
