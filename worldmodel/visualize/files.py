"""Pictures into files and into TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio
import numpy as np
from PIL import Image

from worldmodel.snapshots import settle, unused, write_file

FILMS = (".gif", ".mp4")


def check_suffix(path: Path, accepted: Sequence[str] = (*FILMS, ".png")) -> None:
    """Raise ValueError unless the file's name ends as one that can be written."""
    if path.suffix.lower() not in accepted:
        names = " or ".join([", ".join(accepted[:-1]), accepted[-1]] if len(accepted) > 1 else accepted)
        raise ValueError(f"{path.name!r} cannot be written: give a name that ends in {names}.")


def save_frames(frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """Write pictures uint8 [H, W, 3] as a film, .gif or .mp4, or a single one as .png; folders are made.

    Raises:
        ValueError: another suffix.
    """
    check_suffix(path)
    if path.suffix.lower() == ".png":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, as_png(frames[0]))
        return
    film = FilmFile(path, fps)
    if path.suffix.lower() == ".gif":
        write_file(path, as_gif(frames, fps))
        return
    for frame in frames:
        film.add(frame)
    film.close()


class FilmFile:
    """A film that is written while it is made, .gif or .mp4: no frame is kept; those of a GIF are, compressed, until its end.

    Raises:
        ValueError: another suffix, or no rate of frames.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_suffix(path, FILMS)
        check_rate(fps)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.fps, self.count = path, fps, 0
        self._writer: Any = None
        self._encoded: list[bytes] = []

    def add(self, frame: np.ndarray) -> None:
        """A picture uint8 [H, W, 3], of one size with all others."""
        self.count += 1
        if self.path.suffix.lower() == ".gif":
            self._encoded.append(as_png(frame, compress_level=1))
            return
        if self._writer is None:
            self._beside = unused(self.path.parent, self.path.name)
            # Even sides are enough for H.264; imageio would stretch pictures to multiples of 16.
            self._writer = imageio.get_writer(self._beside, fps=self.fps, macro_block_size=2)
        self._writer.append_data(frame)

    def close(self) -> None:
        """Finish the file; nothing is written where there was no frame."""
        if self._writer is not None:
            self._writer.close()
            settle(self._beside, self.path)
        if self._encoded:
            frames = [np.asarray(Image.open(io.BytesIO(encoded))) for encoded in self._encoded]
            write_file(self.path, as_gif(frames, self.fps))


def check_rate(fps: float) -> None:
    """Raise ValueError unless films can be shown at so many frames a second."""
    if not 0 < fps <= 1000:
        raise ValueError(f"A film shows more than 0 and at most 1000 frames a second: got fps={fps}.")


def as_png(picture: np.ndarray, **options: int) -> bytes:
    """The bytes of a PNG of a picture uint8 [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", **options)
    return file.getvalue()


def as_gif(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """The bytes of an endless GIF of 50 frames a second at most.

    Its 256 colours are chosen from some of its frames: what is bright and rare keeps its own.
    """
    chosen = [frames[i] for i in sorted({round(k * (len(frames) - 1) / 7) for k in range(8)})]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(256, Image.Quantize.FASTOCTREE)
    first, *rest = (Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    file = io.BytesIO()
    # A GIF counts in hundredths of a second, and browsers slow down what is shown for less than two.
    duration = 10 * max(round(100 / fps), 2)
    first.save(file, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return file.getvalue()


def write_gif(writer: Any, tag: str, frames: Sequence[np.ndarray], step: int, fps: float) -> None:
    """Show pictures in TensorBoard as one that moves. ``SummaryWriter.add_video`` would write nothing, silently."""
    _write_image(writer, tag, as_gif(frames, fps), frames[0].shape, step)


def write_picture(writer: Any, tag: str, picture: np.ndarray, step: int) -> None:
    """Show a picture uint8 [H, W, 3] in TensorBoard."""
    _write_image(writer, tag, as_png(picture), picture.shape, step)


def _write_image(writer: Any, tag: str, encoded: bytes, shape: tuple[int, ...], step: int) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(encoded_image_string=encoded, height=shape[0], width=shape[1], colorspace=3)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
