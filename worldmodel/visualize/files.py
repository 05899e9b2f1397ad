"""Pictures into files and into TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio
import numpy as np
from PIL import Image

FILMS = (".gif", ".mp4")


def check_suffix(path: Path, accepted: Sequence[str] = (*FILMS, ".png")) -> None:
    """Raise ValueError unless the file's name ends as one that can be written."""
    if path.suffix not in accepted:
        names = " or ".join([", ".join(accepted[:-1]), accepted[-1]] if len(accepted) > 1 else accepted)
        raise ValueError(f"{path.name!r} cannot be written: give a name that ends in {names}.")


def save_frames(frames: Sequence[np.ndarray], path: Path, fps: float) -> None:
    """Write pictures uint8 [H, W, 3] as a film, .gif or .mp4, or a single one as .png; folders are made.

    Raises:
        ValueError: another suffix.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(frames[0]).save(path)
    elif path.suffix == ".gif":
        path.write_bytes(as_gif(frames, fps))
    else:
        # Even sides are enough for H.264; imageio would stretch pictures to multiples of 16.
        imageio.mimwrite(path, list(frames), fps=fps, macro_block_size=2)  # type: ignore[arg-type]


def as_gif(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """The bytes of an endless GIF."""
    first, *rest = (
        Image.fromarray(frame).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for frame in frames
    )
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return file.getvalue()


def write_gif(writer: Any, tag: str, frames: Sequence[np.ndarray], step: int, fps: float) -> None:
    """Show pictures in TensorBoard as one that moves. ``SummaryWriter.add_video`` would write nothing, silently."""
    _write_image(writer, tag, as_gif(frames, fps), frames[0].shape, step)


def write_picture(writer: Any, tag: str, picture: np.ndarray, step: int) -> None:
    """Show a picture uint8 [H, W, 3] in TensorBoard."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    _write_image(writer, tag, file.getvalue(), picture.shape, step)


def _write_image(writer: Any, tag: str, encoded: bytes, shape: tuple[int, ...], step: int) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(encoded_image_string=encoded, height=shape[0], width=shape[1], colorspace=3)
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
