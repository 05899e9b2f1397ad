import pytest
import torch

from worldmodel.data import Steps
from worldmodel.data.augmentation import (
    AugmentationConfig,
    augment,
    colour_jitter,
    exchange_still,
    pixel_noise,
    random_crop,
    random_mask,
    random_shift,
    two_views,
)


def seen(observation: dict[str, torch.Tensor]) -> Steps:
    """Steps [B, T] of one episode each that show this."""
    shape = next(iter(observation.values())).shape[:2]
    never = torch.zeros(shape, dtype=torch.bool)
    return Steps(observation, torch.zeros(shape), never, never, never, torch.zeros(*shape, 1))


def test_a_sequence_is_shifted_as_a_whole_and_its_border_repeated():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8, 2), dtype=torch.uint8)
    vectors = torch.randn(40, 3, 5)
    shifted = random_shift({"camera": images, "depth": images.flip(-1), "pose": vectors}, 2)
    assert torch.equal(shifted["pose"], vectors) and shifted["camera"].dtype is torch.uint8
    padded = torch.nn.functional.pad(images.float().permute(0, 1, 4, 2, 3), (2, 2, 2, 2, 0, 0), mode="replicate")
    seen = set()
    for b in range(40):
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(padded[b, ..., down : down + 8, right : right + 8].permute(0, 2, 3, 1), shifted["camera"][b].float())
        ]  # fmt: skip
        assert len(found) == 1, "one shift for all steps"
        seen |= set(found)
        assert torch.equal(shifted["depth"][b], shifted["camera"][b].flip(-1)), "all images of a sequence alike"
    assert len(seen) > 15 and {down for down, _ in seen} == set(range(5)) == {right for _, right in seen}


IMAGES = torch.randint(0, 256, (30, 4, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
VECTORS = torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(1)) + 3


@pytest.mark.parametrize("each_step", [False, True])
def test_a_crop_is_a_part_of_the_image_scaled_up(each_step):
    ramp = torch.arange(16.0).view(1, 1, 1, 16, 1).expand(50, 3, 16, 16, 1)
    cut = random_crop({"camera": ramp.contiguous()}, 0.5, each_step)["camera"]
    torch.testing.assert_close(cut, cut[:, :, :1].expand_as(cut), rtol=1e-4, atol=1e-4)  # rows stay alike
    steps = cut[..., 0, :, 0].diff(dim=-1)[..., 4:-4]  # away from the border, where pixels repeat
    slopes = steps.mean(-1)
    assert slopes.min() > 0.49 and slopes.max() < 1.01 and slopes.std() > 0.1
    torch.testing.assert_close(steps, slopes.unsqueeze(-1).expand_as(steps), rtol=1e-3, atol=1e-3)
    assert (cut[:, 0] == cut[:, 1]).flatten(1).all(1).all() != each_step


@pytest.mark.parametrize("each_step", [False, True])
def test_colour_jitter_is_brightness_then_contrast_then_saturation(each_step):
    torch.manual_seed(0)
    found = colour_jitter({"camera": IMAGES}, 0.4, each_step)["camera"]
    torch.manual_seed(0)
    factors = 1 + 0.4 * (2 * torch.rand(3, 30, 4 if each_step else 1, 1, 1, 1) - 1)
    assert factors.min() > 0.6 and factors.max() < 1.4
    for b, t in ((0, 0), (3, 1), (29, 3)):
        brightness, contrast, saturation = (f[b, t if each_step else 0].item() for f in factors)
        image = IMAGES[b, t].double() * brightness
        image = image.mean() + contrast * (image - image.mean())
        grey = image.mean(-1, keepdim=True)
        image = (grey + saturation * (image - grey)).clamp(0, 255)
        torch.testing.assert_close(found[b, t].double(), image, rtol=1e-4, atol=1e-2)


def test_noise_has_the_deviation_asked_for():
    grey = torch.full((4, 4, 32, 32, 3), 128, dtype=torch.uint8)
    noisy = pixel_noise({"camera": grey}, 0.05)["camera"]
    assert noisy.std().item() == pytest.approx(0.05 * 255, rel=0.02)
    assert noisy.mean().item() == pytest.approx(128, abs=0.5)
    throughout = pixel_noise({"camera": grey}, 0.05, each_step=False)["camera"]
    assert torch.equal(throughout, throughout[:, :1].expand_as(throughout))
    assert throughout.std().item() == pytest.approx(0.05 * 255, rel=0.02)
    still = AugmentationConfig(shift=0, scaling=0.0, noise=0.05, vector_noise=0.05, noise_each_step=False)
    view = augment(seen({"camera": grey, "pose": torch.zeros(4, 4, 5)}), still)
    for value in view.values():
        assert torch.equal(value, value[:, :1].expand_as(value)) and value.std() > 0.01
    moving = augment(seen({"camera": grey}), AugmentationConfig(shift=0, noise=0.05))["camera"]
    assert not torch.equal(moving[:, 0], moving[:, 1])


def test_vectors_are_scaled_as_a_whole_and_get_noise_of_their_own():
    view = augment(seen({"pose": VECTORS, "speed": 2 * VECTORS}), AugmentationConfig(scaling=0.3))
    factor = view["pose"] / VECTORS
    assert torch.allclose(factor, factor[:, :1, :1].expand_as(factor)) and 0.7 <= factor.min() < factor.max() <= 1.3
    torch.testing.assert_close(view["speed"], 2 * view["pose"])
    noisy = augment(seen({"pose": torch.zeros(100, 50, 5)}), AugmentationConfig(vector_noise=0.1))["pose"]
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02)


def test_categories_stay_as_they_are_and_a_seed_gives_one_view():
    observation = {"camera": IMAGES, "pose": VECTORS, "mode": torch.ones(30, 4, 3, dtype=torch.uint8)}
    config = AugmentationConfig(crop=0.8, jitter=0.3, noise=0.1)
    views = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        views.append(augment(seen(observation), config))
    first, second, third = views
    assert torch.equal(first["mode"], observation["mode"])
    for name in ("camera", "pose"):
        assert first[name].shape == observation[name].shape
        assert torch.equal(first[name], second[name]) and not torch.equal(first[name], third[name])
    off = AugmentationConfig(shift=0, scaling=0.0)
    assert all(torch.equal(value, observation[name]) for name, value in augment(seen(observation), off).items())


def test_what_stands_still_comes_from_another_sequence_and_what_moves_stays():
    still = torch.randint(0, 100, (12, 1, 8, 8, 1)).float()
    moving = torch.zeros(12, 5, 8, 8, 1)
    for t in range(5):
        moving[:, t, t] = 100  # a bright row that goes down: nowhere for more than one of five steps
    steps = seen({"camera": (still + moving).to(torch.uint8)})
    exchanged = augment(steps, AugmentationConfig(shift=0, exchange=True))["camera"]
    grounds = exchanged - moving
    torch.testing.assert_close(grounds, grounds[:, :1].expand_as(grounds))
    from_where = [[k for k in range(12) if torch.equal(ground, still[k, 0])] for ground in grounds[:, 0]]
    assert sorted(k for found in from_where for k in found) == list(range(12)), "each gives once"
    assert all([k] != found for k, found in enumerate(from_where)), "and none to itself"
    first, second = (view["camera"] for view in two_views(steps, AugmentationConfig(shift=0, exchange=True)))
    assert torch.equal(first, steps.observation["camera"]), "of two views the first keeps its own"
    assert (second - first)[:, :, :, :, 0].flatten(1).any(1).all()
    alone = exchange_still({"camera": moving, "pose": VECTORS[:12]}, torch.ones(12, dtype=torch.bool))
    assert torch.equal(alone["camera"], moving), "where nothing stands still, nothing changes"
    assert torch.equal(alone["pose"], VECTORS[:12])


@pytest.mark.parametrize("why", ["a reset", "padding"])
def test_nothing_still_is_exchanged_with_sequences_of_several_episodes(why):
    images = torch.randint(0, 256, (20, 6, 4, 4, 1), dtype=torch.uint8)
    several = torch.arange(20) % 3 == 0
    steps = seen({"camera": images})
    if why == "a reset":
        steps = steps._replace(is_first=(torch.arange(6) == 4) & several.unsqueeze(1))
    else:
        steps = steps._replace(extras={"valid": (torch.arange(6) < 4) | ~several.unsqueeze(1)})
    views = []
    for given in (images, torch.where(several.view(-1, 1, 1, 1, 1), 255 - images, images)):
        torch.manual_seed(0)
        views.append(augment(steps._replace(observation={"camera": given}), AugmentationConfig(shift=0, exchange=True)))
    first, second = (view["camera"] for view in views)
    assert torch.equal(first[several], images[several].float()), "they take nothing"
    assert (first[~several] != images[~several].float()).flatten(1).any(1).all(), "all others take"
    assert torch.equal(first[~several], second[~several]), "and give nothing"


@pytest.mark.parametrize("each_step", [False, True])
@pytest.mark.parametrize("kind", ["patches", "block"])
def test_a_mask_hides_its_share_of_every_picture_and_vector_alike_over_time_or_not(kind, each_step):
    torch.manual_seed(0)
    images = IMAGES.clamp(max=120)  # so that nothing seen is as grey as what is hidden
    masked = random_mask({"camera": images, "pose": VECTORS}, 0.25, kind, 4, each_step)
    hidden = (masked["camera"] == 128).all(-1)
    assert torch.equal(masked["camera"][~hidden], images[~hidden]) and masked["camera"].dtype is torch.uint8
    assert (hidden.flatten(2).sum(2) == 16).all()
    gone = masked["pose"] == 0
    assert torch.equal(masked["pose"][~gone], VECTORS[~gone]) and (gone.sum(2) == 1).all()
    for mask in (hidden, gone):
        assert bool((mask == mask[:, :1]).all()) != each_step
    assert not (hidden == hidden[:1]).all(), "each sequence has its own"


def test_whole_steps_are_hidden_in_all_entries_at_once():
    torch.manual_seed(0)
    view = augment(
        seen({"camera": IMAGES, "pose": VECTORS}), AugmentationConfig(0, scaling=0, mask=0.5, mask_kind="steps")
    )
    hidden = (view["camera"] == 128).flatten(2).all(2)
    assert torch.equal(hidden, (view["pose"] == 0).all(2)) and (hidden.sum(1) == 2).all()
    assert torch.equal(view["camera"][~hidden], IMAGES[~hidden]) and torch.equal(
        view["pose"][~hidden], VECTORS[~hidden]
    )
    with pytest.raises(ValueError, match="hides 0 to less than 1 of patches, block or steps: got mask=1"):
        AugmentationConfig(mask=1.0)
