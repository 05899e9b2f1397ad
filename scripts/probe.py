"""What a representation knows of the physical state: probes with few labels, beside a random encoder.

    python scripts/probe.py runs/cpc --data data/reacher --labels 10 100 1000

It reads runs of pretrain.py and of train.py. Labels are drawn from the episodes that a pretraining learned from, and asked for in
the others. What can be asked for are the vectors of the recording that are not observed: collect.py records them beside pictures.
"""

from __future__ import annotations

import csv
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from command import one_sentence_errors
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tyro.conf import Positional

import agents
from agents.looking import left_out_by
from worldmodel import Representation, load_representation
from worldmodel.data import Steps
from worldmodel.data.augmentation import random_shift
from worldmodel.data.recording import Recording
from worldmodel.diagnostics import (
    Encoded,
    Knowledge,
    alignment,
    dci,
    deviations,
    effective_rank,
    encode,
    latent_open_loop,
    mean_r2,
    mig,
    still_dimensions,
    surprise,
    targets_of,
    uniformity,
    what_is_known,
)
from worldmodel.objectives import Variational, VariationalConfig


@dataclass(frozen=True)
class ProbeCommand:
    run: Annotated[Path, Positional]
    """The folder of a pretraining or of a training."""
    data: Path
    """The recording's folder (collect.py --out)."""
    labels: tuple[int, ...] = (10, 100, 1000)
    """Numbers of labelled steps."""
    targets: tuple[str, ...] = ()
    """Names of what is asked for; left out, every vector of numbers that is not observed."""
    held_out: float | None = None
    """Share of the episodes, the last ones, that are asked about; left out, those that a pretraining left for that, else 0.2."""
    disentanglement: bool = False
    """Measure DCI and MIG too, of the variables of a variational objective as well (takes minutes; extra "diagnostics")."""
    out: Path | None = None
    """A CSV file for all rows."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, …"""
    seed: int = 0
    """Of the random encoder and of the labels drawn."""


def main() -> None:
    with one_sentence_errors(ImportError):
        command = tyro.cli(ProbeCommand, description=__doc__)
        if not command.labels or min(command.labels) < 2:
            raise ValueError(f"A probe learns from two labels or more: got labels {list(command.labels)}.")
        device = agents.Execution(agents.ExecutionConfig(command.device)).device
        loaded, recording = load_representation(command.run, device), Recording(command.data)
        observed = list(loaded.spec.observation)
        spec = dataclasses.replace(recording.observing(observed), action=loaded.spec.action)
        if differences := loaded.spec.differences(spec):
            raise ValueError(f"{command.run} reads other observations than {command.data}: {' '.join(differences)}")
        targets = list(command.targets) or targets_of(recording.spec, observed)
        recording.observing(targets)
        if not targets:
            raise ValueError(
                f"{command.data} holds nothing that could be asked for: record pictures, with the state beside "
                "them, as collect.py --observation pixels does."
            )
        torch.manual_seed(command.seed)
        read = tuple(one for one in loaded.config.objectives if isinstance(one, VariationalConfig))
        config = dataclasses.replace(loaded.config, objectives=read)
        beside = Representation.from_config(config, loaded.spec).to(device).eval()
        held_out = left_out_by(command.run) if command.held_out is None else command.held_out
        parts = [list(recording.episodes(part)) for part in recording.split(held_out)]
        if not all(parts):
            raise ValueError(f"{command.data} holds {len(recording)} episodes: probes need two or more.")
        pair = {"learned": loaded.representation, "random": beside}
        found, rows = {}, []
        for name, representation in pair.items():
            train, test = (encode(representation, part, observed, targets) for part in parts)
            found[name] = train, test
            rows += [(name, one) for one in what_is_known(train, test, command.labels, seed=command.seed)]
        console = Console(highlight=False)
        show(console, rows, targets, command)
        show_shape(console, pair, {name: test for name, (_, test) in found.items()}, parts[1], observed)
        if loaded.representation.dynamics is not None:
            episodes = [as_observed(episode, observed) for episode in parts[1]]
            show_open_loop(console, pair, episodes)
            show_surprise(console, pair, episodes)
        if command.disentanglement:
            show_disentanglement(console, pair, {name: test for name, (_, test) in found.items()})
        if command.out is not None:
            write(command.out, rows)


def show(console: Console, rows: list[tuple[str, Knowledge]], targets: list[str], command: ProbeCommand) -> None:
    """R² by level, reader and labels: over all targets, and for each."""
    table = Table(title=f"R² in other episodes: {command.run.name} (a random encoder)")
    for column in ("level", "reader", "labels", "all", *targets):
        table.add_column(column, justify="left" if column in ("level", "reader") else "right")
    means = {name: mean_r2([one for owner, one in rows if owner == name]) for name in ("learned", "random")}
    single = {(name, one.level, one.reader, one.labels, one.target): one.r2 for name, one in rows}
    for key in means["learned"]:
        cells = [f"{means['learned'][key]:.2f} ({means['random'][key]:.2f})"]
        for target in targets:
            pair = [single.get((name, *key, target)) for name in ("learned", "random")]
            cells.append("–" if None in pair else f"{pair[0]:.2f} ({pair[1]:.2f})")
        table.add_row(key[0], key[1], f"{key[2]:,}", *cells)
    console.print(table)


def some_of(rows: Tensor, most: int) -> Tensor:
    """So many of rows [N, ...] at most, the same ones each time."""
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most]]


def show_shape(
    console: Console,
    pair: dict[str, Representation],
    found: dict[str, Encoded],
    episodes: list[Steps],
    observed: list[str],
) -> None:
    """How the vectors lie: rank, deviation, uniformity, and alignment where there are pictures."""
    table = Table(title="How the vectors lie (a random encoder)")
    for column in ("level", "RankMe", "deviation", "still", "uniformity", "dimensions"):
        table.add_column(column, justify="left" if column == "level" else "right")
    measures = (
        lambda rows: effective_rank(some_of(rows, 20_000)),  # many more than there are dimensions
        lambda rows: deviations(rows).mean(),
        still_dimensions,
        lambda rows: uniformity(some_of(rows, 2000)),  # of all pairs
    )
    for level, rows in found["learned"].levels.items():
        beside = found["random"].levels[level]
        cells = [f"{float(measure(rows)):.3g} ({float(measure(beside)):.3g})" for measure in measures]
        table.add_row(level, *cells, str(rows.shape[1]))
    console.print(table)
    pictures = [name for name in observed if episodes[0].observation[name].ndim == 4]
    if pictures:
        with torch.no_grad():
            device = next(pair["learned"].parameters()).device
            seen = {name: episodes[0].observation[name].to(device)[:256] for name in observed}
            shifted = random_shift(
                {name: seen[name].unsqueeze(1) for name in pictures}, 2
            )  # each by itself: [N, 1, ...]
            moved = seen | {name: images.squeeze(1) for name, images in shifted.items()}
            distances = [float(alignment(*(one.encoder(v).float() for v in (seen, moved)))) for one in pair.values()]
        console.print(
            f"Alignment of pictures with themselves moved by up to 2 pixels: {distances[0]:.3g} ({distances[1]:.3g})"
        )


def as_observed(episode: Steps, observed: list[str]) -> Steps:
    """An episode with what the model observes alone."""
    return episode._replace(observation={name: episode.observation[name] for name in observed}, extras={})


def show_open_loop(console: Console, pair: dict[str, Representation], episodes: list[Steps]) -> None:
    """How far imagined features stay right, as a share of what predicting no change gives."""
    table = Table(title="Features imagined k steps on: error, 1 is that of no change (a random model)")
    horizons = (1, 2, 5, 10, 15)
    found = [latent_open_loop(one, episodes, horizons[-1]) for one in pair.values()]
    cells = []
    for k in horizons:
        table.add_column(f"k = {k}", justify="right")
        learned, random = (float(errors.error[k - 1] / errors.baseline[k - 1]) for errors in found)
        cells.append(f"{learned:.2f} ({random:.2f})")
    table.add_row(*cells)
    console.print(table)


def show_surprise(console: Console, pair: dict[str, Representation], episodes: list[Steps]) -> None:
    """The steps of the last episodes that were least expected, and how far they stand out, for both."""
    peaks = {name: sorted(_surprises(one, episodes), reverse=True) for name, one in pair.items()}
    median, outstanding = peaks["learned"][len(peaks["learned"]) // 2][0], []
    for ranked in peaks.values():
        outstanding.append(ranked[0][0] / max(ranked[len(ranked) // 2][0], 1e-12))
    words = "; ".join(
        f"{score:.3g} at step {t} of held-out episode {number}" for score, number, t in peaks["learned"][:3]
    )
    console.print(
        f"Surprise by step: median {median:.3g}, highest {words}. The highest is {outstanding[0]:.1f} times the median "
        f"({outstanding[1]:.1f} of a random model)."
    )


def _surprises(representation: Representation, episodes: list[Steps]) -> list[tuple[float, int, int]]:
    """Every step's surprise, with the number of its episode and its own."""
    device, found = next(representation.parameters()).device, []
    for number, episode in enumerate(episodes):
        scores = surprise(representation, episode.map(lambda tensor: tensor.unsqueeze(0).to(device)))[0].cpu()
        found += [(float(score), number, t) for t, score in enumerate(scores)]
    return found


def show_disentanglement(console: Console, pair: dict[str, Representation], found: dict[str, Encoded]) -> None:
    """DCI and MIG of up to 2,000 of the held-out steps, on every level, and of variational variables where there are some."""
    table = Table(title="Disentanglement")
    for column in ("level", "", "disentanglement", "completeness", "informativeness", "MIG"):
        table.add_column(column, justify="left" if column in ("level", "") else "right")
    codes = [(level, name, rows) for name, encoded in found.items() for level, rows in encoded.levels.items()]
    for name, encoded in found.items():
        for objective in pair[name].objectives:
            if isinstance(objective, Variational):
                levels, weights = encoded.levels, objective.posterior.weight
                with torch.no_grad():
                    read = objective.variables(levels.get("feature", levels["embedding"]).to(weights.device)).cpu()
                codes.append(("variables", name, read))
    factors = some_of(torch.cat(list(found["learned"].targets.values()), dim=1), 2000)
    for level, name, rows in codes:
        told = some_of(rows, 2000), factors
        table.add_row(level, name, *(f"{value:.3f}" for value in (*dci(*told), mig(*told))))
    console.print(table)


def write(path: Path, rows: list[tuple[str, Knowledge]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["encoder", *Knowledge._fields])
        writer.writerows([name, *one] for name, one in rows)
    print(f"All rows are in {path}.", file=sys.stderr)


if __name__ == "__main__":
    main()
