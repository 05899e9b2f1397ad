"""Films of imagination: what is in them against plain loops, and what they look like."""

from __future__ import annotations

import dataclasses
import math

import imageio
import numpy as np
import pytest
import small
import torch
from gymnasium import spaces
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from worldmodel import Representation
from worldmodel.data import Spec, Steps
from worldmodel.decoders import VectorDecoderConfig
from worldmodel.dynamics import GaussianRSSMConfig, RSSMConfig
from worldmodel.objectives import ReconstructionConfig
from worldmodel.visualize import Imagination, imagine
from worldmodel.visualize.drawing import DREAMS, SEES
from worldmodel.visualize.layout import curves_of

RECONSTRUCTION = (ReconstructionConfig(decoder=VectorDecoderConfig(units=8, layers=1)),)
STOCHASTIC = {
    "rssm": RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2),
    "gaussian-rssm": GaussianRSSMConfig(deterministic=8, stochastic=4, hidden=8),
}


def episodes(spec: Spec = small.CONTINUOUS, size: int = 2, length: int = 9, seed: int = 0) -> Steps:
    steps = small.stream(spec, max(size, 2), length, seed).select(slice(0, size))
    no = torch.zeros_like(steps.is_first)
    terminal = no.clone()
    terminal[:, -1] = True
    return steps._replace(is_first=no, is_last=terminal, is_terminal=terminal)


def test_what_is_seen_and_imagined_is_what_the_model_gives_step_by_step():
    model, steps = small.model(objectives=RECONSTRUCTION), episodes()
    film = imagine(model, steps, context=3, samples=4)
    assert (film.samples, film.context, film.horizon) == (1, 3, 6), "a deterministic dynamics has one future"
    with torch.no_grad():
        for b in range(2):
            state = small.seen(model, steps, b, 0)
            for t in range(9):
                features = model.dynamics.features(state)
                torch.testing.assert_close(film.imagined["state"][0, b, t], model.decode(features)["state"][0])
                if t == 8:
                    break
                action = steps.action[b : b + 1, t]
                after = small.seen(model, steps, b, t + 1) if t + 1 < 3 else model.dynamics.step(state, action)
                reward, continuation = model.outcomes(features, action, model.dynamics.features(after))
                torch.testing.assert_close(film.imagined_reward[0, b, t + 1], reward[0])
                torch.testing.assert_close(film.imagined_continuation[0, b, t + 1], continuation[0])
                state = after
    assert film.imagined_reward[:, :, 0].isnan().all(), "nothing led to the first step"
    assert torch.equal(film.goes_on, (~steps.is_terminal).float())
    assert torch.equal(film.truth["state"], steps.observation["state"])


def test_steps_that_lead_to_those_shown_are_seen_as_well():
    model, steps = small.model(objectives=RECONSTRUCTION), episodes()
    film, whole = imagine(model, steps, context=2, lead=3), imagine(model, steps, context=5)
    assert (film.context, film.lead, film.horizon) == (2, 3, 4)
    assert torch.equal(film.truth["state"], whole.truth["state"][:, 3:])
    torch.testing.assert_close(film.imagined["state"], whole.imagined["state"][:, :, 3:])
    torch.testing.assert_close(film.imagined_reward[:, :, 1:], whole.imagined_reward[:, :, 4:])
    torch.testing.assert_close(film.latent_error, whole.latent_error)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_futures_part_where_the_model_closes_its_eyes(name):
    model, steps = small.model(objectives=RECONSTRUCTION, dynamics=STOCHASTIC[name]), episodes()
    before = torch.get_rng_state()
    first, again, other = (imagine(model.train(), steps, context=4, samples=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state()) and model.training
    seen, dreamt = first.imagined["state"][:, :, :4], first.imagined["state"][:, :, 4:]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(dreamt[0], dreamt[1])
    assert torch.equal(first.imagined["state"], again.imagined["state"])
    assert not torch.equal(dreamt, other.imagined["state"][:, :, 4:])


def test_a_model_without_a_decoder_shows_its_rewards_and_its_latent_error():
    model, steps = small.model(), episodes()
    film = imagine(model, steps, context=3)
    assert not film.imagined and film.reward.shape == (2, 9)
    with torch.no_grad():
        for b in range(2):
            state = small.seen(model, steps, b, 2)
            start = state.latent[0]
            for k in range(6):
                state = model.dynamics.step(state, steps.action[b : b + 1, 2 + k])
                there = small.seen(model, steps, b, 3 + k).latent[0]
                error = math.sqrt(float((state.latent[0] - there).square().mean()))
                assert float(film.latent_error[b, k]) == pytest.approx(error, rel=1e-4)
                still = math.sqrt(float((start - there).square().mean()))
                assert float(film.latent_baseline[b, k]) == pytest.approx(still, rel=1e-4)
    assert [torch.equal(a, b) for a, b in zip(film.errors(), (film.latent_error, film.latent_baseline), strict=True)]
    assert len(film.frames) == 9


def test_a_representation_imagines_as_the_model_of_the_same_weights_and_shows_no_reward():
    model, steps = small.model(objectives=RECONSTRUCTION, dynamics=STOCHASTIC["rssm"]), episodes()
    representation = Representation(model.encoder, list(model.objectives), model.dynamics)
    film, whole = (imagine(one, steps, context=3, samples=2) for one in (representation, model))
    assert film.imagined_reward is None and film.imagined_continuation is None and film.samples == 2
    assert torch.equal(film.imagined["state"], whole.imagined["state"])
    assert torch.equal(film.latent_error, whole.latent_error)
    assert [curve.label for curve in curves_of(whole, 0)][-3:] == ["reward", "continuation", "error"]
    assert [curve.label for curve in curves_of(film, 0)][-2:] == ["state[2]", "error"]
    with pytest.raises(ValueError, match="encoder alone imagines nothing"):
        imagine(Representation(model.encoder, []), steps, context=3)


def test_errors_are_root_mean_squares_over_entries_and_samples():
    generator = torch.Generator().manual_seed(0)
    truth, imagined = torch.randn(2, 5, 3, generator=generator), torch.randn(4, 2, 5, 3, generator=generator)
    nothing = torch.zeros(2, 3)
    rest = (torch.zeros(2, 5), torch.zeros(4, 2, 5), torch.ones(2, 5), None, nothing, nothing)
    vectors = Imagination({"a": truth}, {"a": imagined}, *rest, context=2)
    scale = truth.reshape(10, 3).numpy().var(0, ddof=1).mean() ** 0.5
    error, baseline = vectors.errors()
    for b in range(2):
        for k in range(3):
            difference = (imagined[:, b, 2 + k] - truth[b, 2 + k]).numpy() / scale
            assert float(error[b, k]) == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-5)
            difference = (truth[b, 1] - truth[b, 2 + k]).numpy() / scale
            assert float(baseline[b, k]) == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-5)
    images = torch.randint(0, 256, (2, 5, 8, 8, 3), generator=generator).byte()
    dreams = torch.full((4, 2, 5, 8, 8, 3), 51.0)
    pictures = dataclasses.replace(
        vectors, truth=vectors.truth | {"i": images}, imagined=vectors.imagined | {"i": dreams}
    )
    expected = ((images[0, 2].float() / 255 - 0.2) ** 2).mean().sqrt()
    assert float(pictures.errors()[0][0, 0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture(scope="module")
def film() -> Imagination:
    """Of images and vectors, three futures."""
    spec = Spec.from_spaces(
        spaces.Dict({"image": spaces.Box(0, 255, (16, 16, 3), np.uint8), "v": spaces.Box(-1, 1, (10,))}),
        spaces.Box(-1, 1, (2,)),
    )
    generator = torch.Generator().manual_seed(0)
    truth = {
        "image": torch.randint(0, 256, (2, 7, 16, 16, 3), generator=generator).byte(),
        "v": torch.randn(2, 7, 10, generator=generator),
    }
    imagined = {name: value.float().expand(3, *value.shape) + 0.1 for name, value in truth.items()}
    reward = torch.randn(2, 7, generator=generator)
    assert set(spec.observation) == set(truth)
    error = torch.rand(2, 4, generator=generator)
    return Imagination(
        truth, imagined, reward, reward.expand(3, 2, 7), torch.ones(2, 7), torch.ones(3, 2, 7), error, error, 3
    )


def test_a_film_has_a_picture_for_each_step_green_while_it_sees_and_red_while_it_dreams(film):
    assert len(film.frames) == 7 and len({frame.shape for frame in film.frames}) == 1
    for t, frame in enumerate(film.frames):
        flat = frame.reshape(-1, 3)
        green, red = ((flat == colour).all(1).sum() for colour in (SEES, DREAMS))
        assert (green > red) == (t < 3)
    assert film.contact_sheet.shape[2] == 3


def test_a_film_is_written_whole_in_each_format(film, tmp_path):
    film.save(tmp_path / "new" / "dream.gif", fps=5)
    with Image.open(tmp_path / "new" / "dream.gif") as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (7, 200, 0)
        gif.seek(4)
        picture = np.asarray(gif.convert("RGB")).astype(int)
    assert np.abs(picture - film.frames[4]).mean() < 6, "256 colours"
    film.save(tmp_path / "dream.mp4", fps=5)
    assert len([frame for frame in imageio.get_reader(tmp_path / "dream.mp4")]) == 7  # noqa: C416
    film.save(tmp_path / "dream.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "dream.png")), film.contact_sheet)
    with pytest.raises(ValueError, match=r"'dream.avi' cannot be written: give a name that ends in .gif, .mp4 or .png"):
        film.save(tmp_path / "dream.avi")


def test_tensorboard_shows_the_film_moving(film, tmp_path):
    writer = SummaryWriter(str(tmp_path))
    film.to_tensorboard(writer, 12, tag="imagination")
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("imagination")
    assert (image.step, image.height, image.width) == (12, *film.frames[0].shape[:2])
    assert image.encoded_image_string.startswith(b"GIF89a")


@pytest.mark.parametrize("arguments", [{"context": 0}, {"context": 9}, {"context": 5, "horizon": 5}, {"samples": 0}])
def test_more_than_there_is_is_refused(arguments):
    with pytest.raises(ValueError, match="9 steps cannot be .* together at most 9"):
        imagine(small.model(), episodes(), **{"context": 3} | arguments)


def test_stretches_with_a_reset_inside_are_refused():
    with pytest.raises(ValueError, match="An episode begins inside a sequence"):
        imagine(small.model(), small.stream(length=9), context=2)


def test_one_sequence_is_a_batch_of_one():
    steps = episodes().select(0)
    assert imagine(small.model(), steps, context=3).reward.shape == (1, 9)
