"""What is drawn of many entries, and what the captions say."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from worldmodel.visualize import drawing
from worldmodel.visualize.drawing import DREAMS, SEES
from worldmodel.visualize.files import FilmFile, as_gif, save_frames
from worldmodel.visualize.imagination import Imagination
from worldmodel.visualize.layout import (
    MARGIN,
    MOST_CURVES,
    caption_of,
    contact_sheet,
    curves_of,
    doing,
    entries_drawn,
    film,
    legend,
    picture_rows,
)


def imagination(truth: dict[str, torch.Tensor], **changes) -> Imagination:
    """Two sequences of six steps, of which two are seen, with three samples."""
    imagined = {name: value.float().expand(3, *value.shape) for name, value in truth.items()}
    reward, error = torch.zeros(2, 6), torch.ones(2, 4)
    return Imagination(
        truth, imagined, reward, reward.expand(3, 2, 6), torch.ones(2, 6), None, error, error, context=2, **changes
    )


def test_of_many_entries_those_that_change_most_are_drawn():
    cells = torch.zeros(2, 6, 30)
    moving = [3, 7, 8, 12, 15, 20, 21, 29]
    cells[:, ::2, moving] = torch.arange(1.0, 9.0)
    cells[0, :, 5] = 1.0  # another in each sequence, but the same within it
    shown = imagination({"cells": cells, "mission": torch.ones(2, 6, 4)})
    assert entries_drawn(shown) == [("cells", index) for index in moving]
    assert any(f"Of 34 entries the {MOST_CURVES} that change most" in line for line in legend(shown))
    few = imagination({"state": torch.ones(2, 6, 3)})
    assert entries_drawn(few) == [("state", 0), ("state", 1), ("state", 2)]


def test_a_caption_is_whole_however_narrow_the_page():
    entries = {name: torch.ones(2, 6, 2) for name in ("position", "velocity", "target", "touch", "orientations")}
    shown = imagination(entries, inspected=tuple(entries))
    for width in (200, 436, 900):
        lines = caption_of(shown, width)
        assert " ".join(lines) == " ".join(legend(shown))
        assert all(drawing.font().getlength(line) <= width - 2 * MARGIN for line in lines)


def test_captions_say_what_an_inspection_decoder_drew_and_what_was_seen_before():
    frame = torch.zeros(2, 6, 8, 8, 3, dtype=torch.uint8)
    shown = imagination({"frame": frame}, inspected=("frame",), lead=32)
    assert "frame: by an inspection decoder" in legend(shown)[-1]
    assert not any("inspection" in line for line in legend(imagination({"frame": frame})))
    assert len(film(shown)) == 6
    assert doing(shown, 1) == ("step 2: sees (2 steps and up to 32 before in all)", SEES)
    assert doing(imagination({"frame": frame}), 0) == ("step 1: sees (2 steps in all)", SEES)
    assert doing(shown, 2) == ("step 3: imagines, 1 of 4 along the actions taken", DREAMS)
    assert "it sees 2 steps and up to 32 before. Red: it imagines 4 more" in doing(shown)[0]
    assert contact_sheet(shown).shape[0] > contact_sheet(imagination({"state": torch.ones(2, 6, 3)})).shape[0] / 2


def test_rows_are_truth_each_dream_and_twice_their_mean_distance():
    truth = torch.randint(256, (2, 6, 8, 8, 3), dtype=torch.uint8)
    shown = imagination({"frame": truth, "state": torch.randn(2, 6, 3)})
    shown.imagined["frame"] = torch.stack([truth + 0.2, (truth + 10.0).clamp(max=255), truth * 0.0 + 300])
    rows = picture_rows(shown)
    assert [row.label for row in rows] == ["truth", "dream 1", "dream 2", "dream 3", "error x 2"]
    assert [row.bordered for row in rows] == [False, True, True, True, False]
    truth = truth.numpy()
    for row, picture in zip(
        rows, (truth, truth, np.minimum(truth.astype(int) + 10, 255), truth * 0 + 255), strict=False
    ):
        assert row.pictures.dtype == np.uint8 and np.array_equal(row.pictures, picture)
    distance = sum(np.abs(row.pictures.astype(float) - truth) for row in rows[1:4]) / 3
    assert np.abs(rows[4].pictures - np.minimum(2 * distance, 255)).max() <= 1


def test_curves_are_truth_against_each_dream_of_the_sequence():
    shown = imagination({"state": torch.randn(2, 6, 3)})
    shown = dataclasses.replace(
        shown,
        imagined={"state": torch.randn(3, 2, 6, 3)},
        reward=torch.randn(2, 6),
        imagined_reward=torch.randn(3, 2, 6),
        goes_on=torch.rand(2, 6).round(),
        imagined_continuation=torch.rand(3, 2, 6),
    )
    for b in range(2):
        curves = {curve.label: curve for curve in curves_of(shown, b)}
        assert list(curves) == ["state[0]", "state[1]", "state[2]", "reward", "continuation", "error"]
        pairs = {"state[1]": (shown.truth["state"][b, :, 1], shown.imagined["state"][:, b, :, 1])}
        pairs["reward"] = (shown.reward[b], shown.imagined_reward[:, b])
        pairs["continuation"] = (shown.goes_on[b], shown.imagined_continuation[:, b])
        for label, (truth, imagined) in pairs.items():
            assert np.array_equal(curves[label].truth, truth) and np.array_equal(curves[label].imagined, imagined)
        error, baseline = (value[b].numpy() for value in shown.errors())
        assert np.isnan(curves["error"].imagined[0, :2]).all() and np.array_equal(
            curves["error"].imagined[0, 2:], error
        )
        assert np.array_equal(curves["error"].truth[2:], baseline)


def test_a_gif_shows_a_sky_and_something_small_and_bright(tmp_path):
    sky = np.zeros((64, 64, 3), np.uint8)
    sky[..., 2] = np.linspace(40, 160, 64)[:, None]
    frames = [sky.copy() for _ in range(12)]
    for t, frame in enumerate(frames):
        frame[30:33, 4 * t : 4 * t + 3] = (230, 120, 20)
    (tmp_path / "film.gif").write_bytes(as_gif(frames, 10))
    with Image.open(tmp_path / "film.gif") as gif:
        for t, frame in enumerate(frames):
            gif.seek(t)
            error = np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame)
            assert error.mean() < 2 and error.max() < 20


@pytest.mark.parametrize("suffix", [".gif", ".GIF", ".mp4"])
def test_a_film_is_written_frame_by_frame(tmp_path, suffix):
    frames = [np.full((10, 12, 3), 20 * t, np.uint8) for t in range(4)]
    one = FilmFile(tmp_path / "one" / f"film{suffix}", 25)
    for frame in frames:
        one.add(frame)
    one.close()
    save_frames(frames, tmp_path / f"other{suffix}", 25)
    assert one.count == 4
    assert one.path.read_bytes() == (tmp_path / f"other{suffix}").read_bytes()


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 1e6])
def test_a_film_without_a_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="more than 0 and at most 1000 frames a second"):
        FilmFile(tmp_path / "film.gif", fps)


@pytest.mark.parametrize(("fps", "duration"), [(10, 100), (50, 20), (60, 20), (1000, 20)])
def test_a_gif_is_no_faster_than_browsers_show(fps, duration):
    frames = [np.full((10, 12, 3), 60 * t, np.uint8) for t in range(3)]
    assert Image.open(io.BytesIO(as_gif(frames, fps))).info["duration"] == duration


def test_a_film_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"the film before")
    one = FilmFile(path, 25)
    for t in range(4):
        one.add(np.full((16, 16, 3), 20 * t, np.uint8))
        assert path.read_bytes() == b"the film before"
    one.close()
    assert path.read_bytes() != b"the film before" and list(tmp_path.iterdir()) == [path]


def test_of_stacked_pictures_the_last_is_shown():
    pictures = np.zeros((4, 4, 12), np.uint8)
    for channels, colour in (((11,), (0, 0, 200)), ((9, 10, 11), (200, 200, 200))):
        pictures[:, :, channels] = 200
        page = Image.new("RGB", (8, 8))
        drawing.frame(page, pictures, 0, 0, 8, None)
        assert page.getpixel((4, 4)) == colour
    page = Image.new("RGB", (8, 8))
    drawing.frame(page, np.stack([np.full((4, 4), 50 * k, np.uint8) for k in range(4)], -1), 0, 0, 8, None)
    assert page.getpixel((4, 4)) == (150, 150, 150), "four grey ones"
