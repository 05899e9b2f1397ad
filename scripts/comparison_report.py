"""The table and the figure of compare_objectives.py."""

from __future__ import annotations

import csv
import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNTAUGHT = "\\*"
"""Behind the name of an objective that has not shaped the features that its row is of."""


def report(
    rows: list[dict[str, Any]],
    names: Sequence[str],
    conditions: Sequence[str],
    labels: Sequence[int],
    folder: Path,
    title: str,
    told: Sequence[str] = (),
) -> list[Path]:
    """Write table.csv, table.md and, where matplotlib is installed, a figure of each level, table_embedding.png.

    Args:
        told: sentences on how it was made.
    """
    write_csv(rows, labels, folder / "table.csv")
    levels = list(dict.fromkeys(level.split()[0] for row in rows for level in row["r2"]))
    sections = [f"# What is known of the state: {title}\n", "\n".join(told) + "\n"]
    for level in levels:
        sections.append(table(rows, names, conditions, labels, level))
    (folder / "table.md").write_text("\n".join(sections) + "\n")
    written = [folder / "table.csv", folder / "table.md"]
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print('No figure: it needs matplotlib, pip install "worldmodel[plots]".')
    else:
        for level in levels:
            written.append(draw(plt, rows, names, conditions, labels, level, folder / f"table_{level}.png", title))
    return written


def mean_of(rows: list[dict[str, Any]], name: str, condition: str, key: str, place: int) -> tuple[float, float] | None:
    """Mean and standard deviation over seeds of one number."""
    values = [
        row["r2"][key][place]
        for row in rows
        if row["objective"] == name and row["condition"] == condition and key in row["r2"]
    ]
    if not values:
        return None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def failures(rows: list[dict[str, Any]], name: str, condition: str) -> int:
    """In how many seeds nothing is known, since numbers were not finite."""
    return sum((row["objective"], row["condition"]) == (name, condition) and "failed" in row for row in rows)


def ordered(rows: list[dict[str, Any]], names: Sequence[str], condition: str, key: str) -> list[str]:
    """The objectives of which anything is known on this level, the best in this condition first, those that failed in it last.

    What failed everywhere stands among the embeddings.
    """
    known = {row["objective"] for row in rows if key in row["r2"]}
    if key.startswith("embedding"):
        known |= {row["objective"] for row in rows if "failed" in row}
    scores = {name: mean_of(rows, name, condition, key, -1) or (-math.inf, 0.0) for name in names if name in known}
    return sorted(scores, key=lambda name: -scores[name][0])


def table(
    rows: list[dict[str, Any]], names: Sequence[str], conditions: Sequence[str], labels: Sequence[int], level: str
) -> str:
    """Markdown: R² by a linear reader in each condition for each number of labels; neighbours, rank and cost beside it."""
    key = f"{level} linear"
    seeds = len({row["seed"] for row in rows})
    heads = [f"{condition}, {count:,}" for condition in conditions for count in labels]
    learned = [row for row in rows if level == "feature" and row["milliseconds"]]
    untaught = {row["objective"] for row in learned if not row.get("teaches_dynamics", True)}
    note = f" {UNTAUGHT}: it learns from embeddings alone, and the dynamics from their own loss." if untaught else ""
    lines = [
        f"## The {level}\n",
        f"R² of a linear reader in other episodes, mean over targets{f' ± deviation over {seeds} seeds' * (seeds > 1)} (the "
        f"same held-out episodes throughout: of others it would differ further){', one seed' * (seeds == 1)}, "
        "by condition and number of labels; then that of the 5 nearest neighbours and the effective rank, clean, with the most "
        f"labels; and the median milliseconds of an update.{note}\n",
        f"| objective | | {' | '.join(heads)} | neighbours | rank | ms |",
        "|---|---|" + "---:|" * (len(heads) + 3),
    ]
    for name in ordered(rows, names, conditions[0], key):
        cells = []
        for condition in conditions:
            for place in range(len(labels)):
                found = mean_of(rows, name, condition, key, place)
                failed = failures(rows, name, condition)
                cells.append(f"{'–' if found is None else shown(*found)}{f' ({failed} failed)' * bool(failed)}")
        own = [row for row in rows if row["objective"] == name and row["condition"] == conditions[0]]
        near = mean_of(rows, name, conditions[0], f"{level} neighbours", -1)
        cells.append("–" if near is None else f"{near[0]:.2f}")
        ranks = [row["effective_rank"][level] for row in own if level in row["effective_rank"]]
        costs = [row["milliseconds"] for row in own if row["milliseconds"]]
        cells += [f"{statistics.mean(values):.0f}" if values else "–" for values in (ranks, costs)]
        how = next((row.get("how", "") for row in rows if row["objective"] == name), "")
        lines.append(f"| {name}{UNTAUGHT * (name in untaught)} | {how} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shown(mean: float, deviation: float) -> str:
    return f"{mean:.2f} ± {deviation:.2f}" if deviation else f"{mean:.2f}"


def write_csv(rows: list[dict[str, Any]], labels: Sequence[int], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        heads = ["objective", "condition", "seed", "level", "reader", "labels", "r2", "effective_rank", "milliseconds"]
        writer.writerow(heads)
        for row in rows:
            for key, values in row["r2"].items():
                for count, value in zip(labels, values, strict=True):
                    writer.writerow(
                        [
                            row["objective"],
                            row["condition"],
                            row["seed"],
                            *key.split(),
                            count,
                            value,
                            row["effective_rank"].get(key.split()[0], ""),
                            row["milliseconds"],
                        ]
                    )


def wrapped(name: str, letters: int = 40) -> str:
    """A name in lines of some letters, broken after commas and before what is added."""
    lines = [""]
    for part in re.split(r"(?<=,)|(?=\+)", name):
        if lines[-1] and len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def draw(
    plt: Any,
    rows: list[dict[str, Any]],
    names: Sequence[str],
    conditions: Sequence[str],
    labels: Sequence[int],
    level: str,
    path: Path,
    title: str,
) -> Path:
    """Dots: a panel for each number of labels, a row for each objective, a colour for each condition."""
    key = f"{level} linear"
    order = ordered(rows, names, conditions[0], key)[::-1]
    shown = [wrapped(name) for name in order]
    # Names of several lines take as many rows.
    heights = [name.count("\n") * 0.7 + 1 for name in shown]
    places = [sum(heights[:k]) + heights[k] / 2 for k in range(len(order))]
    letters = max(len(line) for name in shown for line in name.splitlines())
    size = (1 + 2.6 * len(labels) + 0.075 * letters, 1.6 + 0.22 * sum(heights))
    figure, panels = plt.subplots(1, len(labels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for column, (axes, count) in enumerate(zip(panels[0], labels, strict=True)):
        lowest = 0.0
        for number, condition in enumerate(conditions):
            found = [mean_of(rows, name, condition, key, column) for name in order]
            there = [(place, *pair) for place, pair in zip(places, found, strict=True) if pair is not None]
            # What is worse than knowing the mean is drawn at the border.
            means = [max(mean, -0.5) for _, mean, _ in there]
            lowest = min([lowest, *means])
            axes.errorbar(
                means,
                [place for place, *_ in there],
                xerr=[deviation for *_, deviation in there],
                fmt="o",
                markersize=4,
                color=f"C{number}",
                label=condition if column == 0 else None,
            )
        axes.set_xlim(lowest - 0.05, 1.02)
        axes.axvline(0, color="grey", linewidth=0.5)
        axes.grid(axis="y", linewidth=0.3)
        axes.set_title(f"{count:,} labels", fontsize=9)
    panels[0][0].set_yticks(places, shown, fontsize=8)
    figure.suptitle(f"{title}: R² of a linear reader of the {level}, in other episodes", fontsize=11)
    figure.legend(loc="outside lower center", ncols=len(conditions))
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
