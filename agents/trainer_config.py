"""How long a run takes, and how it is watched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainerConfig:
    """How long a run takes, and how it is watched. Steps are environment steps, action repeat included."""

    steps: int = 100_000
    """How long to train, from the run's beginning."""
    eval_every: int = 10_000
    """Environment steps between evaluations; 0 evaluates at the end alone."""
    eval_episodes: int = 5
    """Episodes of an evaluation during training."""
    final_episodes: int = 10
    """Episodes of the evaluation at the end."""
    log_every: int = 500
    """Environment steps between rows of metrics."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; one is written at every stop besides."""
    replay_device: str = "cpu"
    """cpu, cuda, or disk: memory-mapped files in the run's folder."""
    films: int = 5
    """How often over the run what the model imagines is filmed, into TensorBoard and films/ of the run's folder; an episode as
    well where an evaluation comes at the same step. 0 for never."""
    watch: bool = False
    """Record small pictures of the first environment's last 4,000 steps, for the films alone: a model of vectors is then seen to
    imagine pictures."""
    data: str = ""
    """Folder of a recording (collect.py --out) whose episodes are learned from as well, from the beginning and without any random
    decisions."""
    offline: bool = False
    """Learn from that recording alone: no action is taken but in evaluations, and steps are those that as many updates would
    have come with."""
    stop_above: float | None = None
    """End the run once an evaluation's mean return is above this."""

    def __post_init__(self) -> None:
        if self.offline and not self.data:
            raise ValueError("offline is learning from a recording alone: give its folder, data.")
        if self.offline and self.watch:
            raise ValueError("There is nothing to watch offline: leave out watch.")
        least = {
            "steps": 1,
            "eval_every": 0,
            "eval_episodes": 1,
            "final_episodes": 1,
            "log_every": 1,
            "checkpoint_minutes": 0,
            "films": 0,
        }
        for name, minimum in least.items():
            if not getattr(self, name) >= minimum:  # so put, NaN is refused too
                raise ValueError(f"{name} is at least {minimum}: got {getattr(self, name)}.")
