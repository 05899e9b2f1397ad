"""What is drawn of many entries, and what the captions say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from worldmodel.visualize import drawing
from worldmodel.visualize.files import FilmFile, as_gif, save_frames
from worldmodel.visualize.imagination import Imagination
from worldmodel.visualize.layout import MOST_CURVES, contact_sheet, entries_drawn, film, legend


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


def test_captions_say_what_an_inspection_decoder_drew_and_what_was_seen_before():
    frame = torch.zeros(2, 6, 8, 8, 3, dtype=torch.uint8)
    shown = imagination({"frame": frame}, inspected=("frame",), lead=32)
    assert "frame: by an inspection decoder" in legend(shown)[-1]
    assert not any("inspection" in line for line in legend(imagination({"frame": frame})))
    assert len(film(shown)) == 6
    assert contact_sheet(shown).shape[0] > contact_sheet(imagination({"state": torch.ones(2, 6, 3)})).shape[0] / 2


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
