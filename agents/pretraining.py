"""Learning a representation from recorded rollouts: no rewards, no agent, no environment."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agents.checkpoint import KEPT
from agents.display import Display
from agents.execution import Execution
from agents.learnable import Learnable, Losses
from agents.learner import Learner
from agents.metrics import Averages, MetricsLog
from agents.optimisers import OptimiserConfig
from agents.stopping import Stopped, StopSignals
from worldmodel import Representation, RepresentationConfig, objectives
from worldmodel.data import Replay, Steps
from worldmodel.diagnostics import CollapseWatch
from worldmodel.loading import CHECKPOINTS, find_checkpoint, write_representation
from worldmodel.snapshots import read_json, read_tensors, write_json, write_tensors, writing


@dataclass(frozen=True)
class PretrainingConfig:
    steps: int = 20_000
    """Updates."""
    batch_size: int = 32
    """B, sequences in a batch."""
    batch_length: int = 16
    """T, steps in a sequence."""
    across_episodes: bool = True
    """Whether a sequence may run over the end of an episode into the next; no loss ever reaches across."""
    optimiser: OptimiserConfig = OptimiserConfig(warmup=100, clip=100.0)
    log_every: int = 100
    """Updates between two rows of metrics."""
    checkpoint_minutes: float = 10.0
    """Minutes between two checkpoints."""

    fresh_first = False

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.log_every) < 1 or self.batch_length < 2:
            raise ValueError(
                "A pretraining needs steps, batch_size and log_every ≥ 1 and batch_length ≥ 2: got "
                f"{self.steps}, {self.batch_size}, {self.log_every} and {self.batch_length}."
            )


class Pretraining(Learnable):
    """A representation as a ``Learner`` updates it."""

    def __init__(self, representation: Representation) -> None:
        super().__init__()
        self.model = representation

    def forward(self, steps: Steps) -> Losses:
        scene = self.model.scene(steps)
        return self.summed(self.model(scene), scene)

    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        self.model.after_update(pending, progress)


class Pretrainer:
    """One pretraining, from its last checkpoint if ``logdir`` has one.

    Args:
        representation: built from ``model``.
        replay: the steps to learn from; it declares the ``stored`` extras of the representation's dynamics.

    Raises:
        ValueError: nothing to learn from: no objective, and no dynamics with a loss of its own.
    """

    def __init__(
        self,
        representation: Representation,
        model: RepresentationConfig,
        replay: Replay,
        config: PretrainingConfig,
        execution: Execution,
        logdir: Path | None = None,
        *,
        seed: int = 0,
    ) -> None:
        if not model.objectives:
            raise ValueError("There is nothing to learn from: name an objective, such as cpc.")
        self.model, self.config, self.replay, self.execution, self.logdir = model, config, replay, execution, logdir
        self.learner = Learner(Pretraining(representation), config.optimiser, execution, config.steps)
        self.representation = representation
        self.collapse = CollapseWatch()
        torch.manual_seed(seed)
        if logdir is not None and any((logdir / CHECKPOINTS).glob("*")):
            self._resume(find_checkpoint(logdir))

    def run(self) -> None:
        """Learn until ``config.steps``; the last checkpoint holds the representation.

        Raises:
            Stopped: after SIGINT or SIGTERM, with everything saved.
            NonFiniteLossError: naming the term, with the last checkpoint intact.
        """
        assert self.logdir is not None, "a pretraining without a folder is run update by update"
        title = " ".join(objectives.objectives.name(one) for one in self.model.objectives)
        metrics = MetricsLog(self.logdir, from_step=self.learner.updates + 1 if self.learner.updates else 0)
        try:
            with Display(title, self.config.steps) as display, StopSignals() as stop:
                display.say(f"Runs on {self.execution.describe()}; logs to {self.logdir}.")
                with stop.over_compilers():
                    self._loop(metrics, display, stop)
                self._save()
                if stop.asked and self.learner.updates < self.config.steps:
                    raise Stopped
        finally:
            metrics.close()

    def _loop(self, metrics: MetricsLog, display: Display, stop: StopSignals) -> None:
        if not self.collapse.highest:  # what collapses before the first row of metrics began somewhere as well
            metrics.write(self.learner.updates, self.look()[0])
        averages, saved, since, before = Averages(), time.monotonic(), time.monotonic(), self.learner.updates
        while self.learner.updates < self.config.steps and not stop.asked:
            averages.add(self.update())
            updates = self.learner.updates
            speed = (updates - before) / max(time.monotonic() - since, 1e-6)
            left = int((self.config.steps - updates) / speed)
            display.update(updates, {"updates/s": f"{speed:.1f}", "left": f"{left // 60}:{left % 60:02d}"})
            if updates % self.config.log_every == 0 or updates == self.config.steps:
                self.learner.check()
                numbers, warnings = self.look()
                for sentence in warnings:
                    display.say(f"{updates:>9,} updates: {sentence}")
                row = {f"train/{name}": value for name, value in averages.take().items()}
                metrics.write(updates, row | numbers | {"speed/updates_per_second": speed})
                since, before = time.monotonic(), updates
            if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                self._save()
                saved = time.monotonic()

    def update(self) -> dict[str, Tensor]:
        """One update on a batch of the recording → losses and metrics."""
        return self.learner.learn_from(self.replay, self.config)

    def look(self) -> tuple[dict[str, float], list[str]]:
        """Effective rank and deviation of recorded steps, and a sentence for what has collapsed."""
        return self.collapse.look(self.learner.glance(self.replay, self.config))

    def _save(self) -> None:
        assert self.logdir is not None
        self.learner.check()
        directory = self.logdir / CHECKPOINTS
        directory.mkdir(parents=True, exist_ok=True)
        random = {"random/torch": torch.get_rng_state()}
        if self.execution.device.type == "cuda":
            random["random/cuda"] = torch.cuda.get_rng_state(self.execution.device)
        folder = directory / f"{self.learner.updates:012d}"
        with writing(folder) as beside:
            write_representation(self.representation, self.model, self.replay.spec, beside)
            write_tensors(beside / "optimiser.safetensors", self.learner.state_dict())
            write_tensors(beside / "training.safetensors", random)
            write_tensors(beside / "replay.safetensors", self.replay.state_dict())
            write_json(beside / "training.json", {"collapse": self.collapse.highest})
        for path in sorted(directory.glob("*"))[:-KEPT]:
            shutil.rmtree(path)

    def _resume(self, folder: Path) -> None:
        self.representation.load_state_dict(read_tensors(folder / "representation.safetensors"))
        self.learner.load_state_dict(read_tensors(folder / "optimiser.safetensors"))
        if self.learner.updates > self.config.steps:
            raise ValueError(
                f"The pretraining in {self.logdir} has done {self.learner.updates:,} updates: give --steps of at least as many."
            )
        self.replay.load_state_dict(read_tensors(folder / "replay.safetensors"))
        self.collapse.highest = read_json(folder / "training.json")["collapse"]
        random = read_tensors(folder / "training.safetensors")
        torch.set_rng_state(random["random/torch"])
        if "random/cuda" in random and self.execution.device.type == "cuda":
            torch.cuda.set_rng_state(random["random/cuda"], self.execution.device)
