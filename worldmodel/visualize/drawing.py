"""Text, frames and curves, drawn with Pillow: a film of fifty pictures in a second, where matplotlib takes ten."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

WHITE: Colour = (255, 255, 255)
INK: Colour = (40, 40, 40)
GREY: Colour = (140, 140, 140)
FAINT: Colour = (205, 205, 205)
SEES: Colour = (40, 160, 75)
DREAMS: Colour = (215, 55, 55)
SEEN_GROUND: Colour = (228, 243, 231)
IMAGINED: Colour = (30, 100, 200)
SPREAD: Colour = (185, 212, 245)

LINE = 14  # pixels from one line of text to the next

# Anchors of a colour map that is even to the eye and reads in grey as well: dark blue, teal, yellow.
_MAP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float64)


@dataclass(frozen=True)
class Curve:
    """One number over time: what it was, and what was imagined of it."""

    label: str
    truth: np.ndarray
    """[T]; NaN where there is nothing to draw."""
    imagined: np.ndarray
    """[N, T]"""
    low: float
    high: float


@functools.cache
def font(size: int = 11) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white page."""
    page = Image.new("RGB", (width, height), WHITE)
    return page, ImageDraw.Draw(page)


def write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour = INK, anchor: str = "la") -> None:
    draw.text((x, y), text, colour, font(), anchor)


def fitting(text: str, width: float) -> str:
    """The text, cut where it is wider than so many pixels."""
    if font().getlength(text) <= width:
        return text
    while text and font().getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def wrapped(text: str, width: float) -> list[str]:
    """The text in lines of whole words, none wider than so many pixels, but for single words that are."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def frame(page: Image.Image, picture: np.ndarray, x: int, y: int, side: int, border: Colour | None) -> None:
    """A picture uint8 [h, w, C] scaled to side × side pixels, with a border of 2 outside it; of stacked ones the last."""
    if border is not None:
        ImageDraw.Draw(page).rectangle((x - 2, y - 2, x + side + 1, y + side + 1), border)
    channels = 3 if picture.shape[2] % 3 == 0 else 1
    picture = np.repeat(picture[:, :, -channels:], 3 // channels, axis=2)
    page.paste(Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), Image.Resampling.BILINEAR), (x, y))


def plot(draw: ImageDraw.ImageDraw, box: Box, curve: Curve, context: int, now: int | None = None) -> None:
    """A curve within ``box``, below its label, up to step ``now``: truth dark, imagined blue with the spread of its samples,
    what was seen on green ground.
    """
    left, top, right, bottom = box
    between = f"{curve.low:.2g} to {curve.high:.2g}"
    write(draw, right, top, between, GREY, "ra")
    write(draw, left, top, fitting(curve.label, right - left - font().getlength(between) - 4))
    top += LINE
    length = len(curve.truth)
    upto = length if now is None else now + 1
    span = max(curve.high - curve.low, 1e-9)

    def x(t: float) -> float:
        return left + (right - left) * t / max(length - 1, 1)

    def line(values: np.ndarray, stop: int) -> list[tuple[float, float]]:
        heights = bottom - 2 - (bottom - top - 4) * (np.clip(values, curve.low, curve.high) - curve.low) / span
        return [(x(t), float(heights[t])) for t in range(stop) if np.isfinite(heights[t])]

    draw.rectangle((left, top, x(context - 1), bottom), SEEN_GROUND)
    draw.rectangle(box, outline=FAINT)
    if len(curve.imagined) > 1:
        low, high = line(curve.imagined.min(0), upto), line(curve.imagined.max(0), upto)
        if len(low) > 1:
            draw.polygon([*high, *reversed(low)], SPREAD)
    if len(truth := line(curve.truth, length)) > 1:
        draw.line(truth, INK, 1)
    if len(mean := line(curve.imagined.mean(0), upto)) > 1:
        draw.line(mean, IMAGINED, 2)
    if now is not None:
        draw.line((x(now), top, x(now), bottom), SEES if now < context else DREAMS)


def colours(values: np.ndarray) -> np.ndarray:
    """Values [M] between 0 and 1 → colours uint8 [M, 3]."""
    place = np.clip(values, 0, 1) * (len(_MAP) - 1)
    return np.stack([np.interp(place, np.arange(len(_MAP)), _MAP[:, c]) for c in range(3)], axis=1).astype(np.uint8)
