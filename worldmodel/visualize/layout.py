"""Where things stand on the pictures of an imagination: the film, and the contact sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import ImageDraw

from worldmodel.visualize.drawing import (
    DREAMS,
    GREY,
    INK,
    LINE,
    SEES,
    Curve,
    canvas,
    fitting,
    frame,
    plot,
    wrapped,
    write,
)

if TYPE_CHECKING:
    from worldmodel.visualize.imagination import Imagination

MARGIN, LABELS, GAP = 8, 62, 8
HEADER = 40
PLOT_HEIGHT = 56
FILM_SIDE, SHEET_SIDE = 96, 64
FILM_WIDTH, SHEET_WIDTH = 420, 700  # at least, within the margins
SHEET_COLUMNS = 10
MOST_CURVES = 8
BRIGHTER = 2  # how many times the error is brighter than it is


class Row(NamedTuple):
    label: str
    pictures: np.ndarray
    """uint8 [B, T, h, w, C]"""
    bordered: bool


def film(imagination: Imagination) -> list[np.ndarray]:
    """One picture for each step: rows of frames, a column for each sequence, and the curves below up to that step."""
    rows, curves = picture_rows(imagination), [curves_of(imagination, b) for b in range(len(imagination.reward))]
    columns = len(curves)
    labels = LABELS if rows else 0
    width = max(FILM_SIDE + GAP, (FILM_WIDTH - labels) // columns)
    whole = 2 * MARGIN + labels + columns * width
    caption = caption_of(imagination, whole)
    below = len(caption) * LINE + GAP // 2
    size = (whole, HEADER + below + len(rows) * (FILM_SIDE + GAP) + len(curves[0]) * (PLOT_HEIGHT + GAP))
    pictures = []
    for now in range(imagination.context + imagination.horizon):
        page, draw = canvas(*size)
        header(draw, imagination, size[0], now)
        y = HEADER
        for row in rows:
            write(draw, MARGIN, y + FILM_SIDE // 2, row.label, anchor="lm")
            for b in range(columns):
                x = MARGIN + labels + b * width + (width - FILM_SIDE) // 2
                border = border_of(imagination, now) if row.bordered else None
                frame(page, row.pictures[b, now], x, y, FILM_SIDE, border)
            y += FILM_SIDE + GAP
        for index in range(len(curves[0])):
            for b in range(columns):
                x = MARGIN + labels + b * width
                plot(draw, (x, y, x + width - GAP, y + PLOT_HEIGHT), curves[b][index], imagination.context, now)
            y += PLOT_HEIGHT + GAP
        write_lines(draw, y, caption)
        pictures.append(np.asarray(page))
    return pictures


def contact_sheet(imagination: Imagination) -> np.ndarray:
    """The film on one page: for each sequence its rows of frames, a column for each of some steps, and its whole curves."""
    rows = picture_rows(imagination)
    times = sheet_times(imagination)
    width = max(SHEET_WIDTH, LABELS + len(times) * (SHEET_SIDE + GAP)) if rows else SHEET_WIDTH
    curves = [curves_of(imagination, b) for b in range(len(imagination.reward))]
    block = LINE + GAP // 2 + len(rows) * (SHEET_SIDE + GAP) + len(curves[0]) * (PLOT_HEIGHT + GAP) + LINE + GAP
    caption = caption_of(imagination, 2 * MARGIN + width)
    size = (2 * MARGIN + width, HEADER + len(curves) * block + len(caption) * LINE)
    page, draw = canvas(*size)
    header(draw, imagination, size[0])
    y = HEADER
    for b, own in enumerate(curves):
        write(draw, MARGIN, y, f"sequence {b + 1}" if len(curves) > 1 else "")
        if rows:
            for column, now in enumerate(times):
                x = MARGIN + LABELS + column * (SHEET_SIDE + GAP)
                write(draw, x + SHEET_SIDE // 2, y, f"step {now + 1}", border_of(imagination, now), "ma")
        y += LINE + GAP // 2
        for row in rows:
            write(draw, MARGIN, y + SHEET_SIDE // 2, row.label, anchor="lm")
            for column, now in enumerate(times):
                border = border_of(imagination, now) if row.bordered else None
                x = MARGIN + LABELS + column * (SHEET_SIDE + GAP)
                frame(page, row.pictures[b, now], x, y, SHEET_SIDE, border)
            y += SHEET_SIDE + GAP
        for curve in own:
            plot(draw, (MARGIN, y, MARGIN + width, y + PLOT_HEIGHT), curve, imagination.context)
            y += PLOT_HEIGHT + GAP
        time_axis(draw, imagination, y - GAP, width)
        y += LINE + GAP
    write_lines(draw, y, caption)
    return np.asarray(page)


def sheet_times(imagination: Imagination) -> list[int]:
    """The steps that the contact sheet shows: the first and the last that is seen, and imagined ones at even distances."""
    seen = sorted({0, imagination.context - 1})
    last = imagination.context + imagination.horizon - 1
    count = min(SHEET_COLUMNS - len(seen), imagination.horizon)
    dreamt = np.unique(np.linspace(imagination.context, last, count).round().astype(int)).tolist()
    return [*seen, *dreamt]


def picture_rows(imagination: Imagination) -> list[Row]:
    """Truth, each sample and the error, for every image that there is."""
    rows = []
    images = [name for name, value in imagination.truth.items() if value.ndim == 5]
    for name in images:
        truth = imagination.truth[name].numpy()
        dreams = imagination.imagined[name].round().clamp(0, 255).byte().numpy()
        error = np.abs(dreams.astype(np.float32) - truth).mean(0)
        of = f" {name}" if len(images) > 1 else ""
        rows.append(Row(f"truth{of}", truth, False))
        rows += [Row(f"dream {n + 1}" if len(dreams) > 1 else "dream", dream, True) for n, dream in enumerate(dreams)]
        rows.append(Row(f"error x {BRIGHTER}", np.clip(BRIGHTER * error, 0, 255).astype(np.uint8), False))
    return rows


def curves_of(imagination: Imagination, b: int) -> list[Curve]:
    """What is drawn of sequence b: vector entries, reward, continuation, and the error by horizon."""
    curves = []
    for name, index in entries_drawn(imagination):
        value, imagined = imagination.truth[name], imagination.imagined[name]
        label = f"{name}[{index}]" if value.shape[2] > 1 else name
        curves.append(curve_of(label, value[:, :, index].float().numpy(), imagined[..., index].numpy(), b))
    if imagination.imagined_reward is not None:
        curves.append(curve_of("reward", imagination.reward.numpy(), imagination.imagined_reward.numpy(), b))
    if imagination.imagined_continuation is not None:
        goes_on = imagination.imagined_continuation[:, b].numpy()
        curves.append(Curve("continuation", imagination.goes_on[b].numpy(), goes_on, -0.05, 1.05))
    model, baseline = (error.numpy() for error in imagination.errors())
    high = float(max(model.max(), baseline.max()))
    unseen = np.full(imagination.context, np.nan)
    by_horizon = np.concatenate([unseen, model[b]])[None]
    return [*curves, Curve("error", np.concatenate([unseen, baseline[b]]), by_horizon, 0.0, high)]


def entries_drawn(imagination: Imagination) -> list[tuple[str, int]]:
    """The vector entries that get a curve, by name and place: all, or the eight that change most of more than that.

    How much one changes is its deviation within the sequences, as a share of its range over all of them.
    """
    vectors = {name: value.float() for name, value in imagination.truth.items() if value.ndim == 3}
    entries = [(name, index) for name, value in vectors.items() for index in range(value.shape[2])]
    if len(entries) <= MOST_CURVES:
        return entries
    change = torch.cat(
        [value.std(1).mean(0) / (value.amax((0, 1)) - value.amin((0, 1))).clamp(min=1e-9) for value in vectors.values()]
    )
    return [entries[place] for place in sorted(change.topk(MOST_CURVES).indices.tolist())]


def curve_of(label: str, truth: np.ndarray, imagined: np.ndarray, b: int) -> Curve:
    """Sequence b of truth [B, T] and imagined [N, B, T], in the range of all of them."""
    values = np.concatenate([truth[None], imagined])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.05 * (high - low) or 0.5
    return Curve(label, truth[b], imagined[:, b], low - room, high + room)


def border_of(imagination: Imagination, now: int) -> tuple[int, int, int]:
    return SEES if now < imagination.context else DREAMS


def header(draw: ImageDraw.ImageDraw, imagination: Imagination, width: int, now: int | None = None) -> None:
    """The title; below, what the model is doing."""
    write(draw, MARGIN, 5, fitting(imagination.title or "What the model imagines", width - 2 * MARGIN))
    text, colour = doing(imagination, now)
    write(draw, MARGIN, 5 + LINE, fitting(text, width - 2 * MARGIN), colour)


def doing(imagination: Imagination, now: int | None = None) -> tuple[str, tuple[int, int, int]]:
    """What the model does at a step, or on the whole page, in words, and their colour."""
    context, horizon = imagination.context, imagination.horizon
    steps = f"{context} step{'s' * (context > 1)}" + (
        f" and up to {imagination.lead} before" if imagination.lead else ""
    )
    if now is None and any(value.ndim == 5 for value in imagination.truth.values()):
        return f"Green: it sees {steps}. Red: it imagines {horizon} more along the actions taken.", INK
    if now is None:
        return f"On green ground it sees {steps}; after that it imagines {horizon} along the actions taken.", INK
    if now < context:
        return f"step {now + 1}: sees ({steps} in all)", SEES
    return f"step {now + 1}: imagines, {now + 1 - context} of {horizon} along the actions taken", DREAMS


def time_axis(draw: ImageDraw.ImageDraw, imagination: Imagination, y: int, width: int) -> None:
    """Steps below the curves of a contact sheet: the first, where it begins to imagine, the last."""
    last = imagination.context + imagination.horizon - 1
    for step, anchor in ((0, "la"), (imagination.context - 1, "ma"), (last, "ra")):
        if step or imagination.context > 1:
            write(draw, MARGIN + width * step / last, y + 2, f"step {step + 1}", GREY, anchor)


def legend(imagination: Imagination) -> list[str]:
    """What is what, in lines."""
    drawn = sum(value.shape[2] for value in imagination.truth.values() if value.ndim == 3)
    mean = (
        f"the mean of {imagination.samples} imagined futures, within their band"
        if imagination.samples > 1
        else "imagined"
    )
    lines = [
        "Black: what happened (error: of no change at all).",
        f"Blue: {mean}.",
        f"Error: root mean square, {imagination.error_unit}.",
    ]
    if drawn > MOST_CURVES:
        lines.append(f"Of {drawn} entries the {MOST_CURVES} that change most are drawn.")
    if imagination.inspected:
        lines.append(
            f"{', '.join(imagination.inspected)}: by an inspection decoder, trained on the side on what was seen."
        )
    return lines


def caption_of(imagination: Imagination, width: int) -> list[str]:
    """The legend in lines that fit on a page so wide."""
    return [part for line in legend(imagination) for part in wrapped(line, width - 2 * MARGIN)]


def write_lines(draw: ImageDraw.ImageDraw, y: int, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        write(draw, MARGIN, y - 2 + number * LINE, line)
