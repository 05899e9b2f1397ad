"""A representation: an encoder, with or without a dynamics model, and the objectives that they learn from."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from worldmodel.data import Spec, Steps
from worldmodel.dynamics import Dynamics, DynamicsConfig
from worldmodel.dynamics import dynamics as known_dynamics
from worldmodel.encoders import Encoder, EncoderConfig, SeveralEncoderConfig, encoders
from worldmodel.nn import ranks
from worldmodel.objectives import Objective, ObjectiveConfig, Outcome
from worldmodel.objectives import objectives as known_objectives
from worldmodel.scene import Scene

if TYPE_CHECKING:
    from worldmodel.belief import Belief


@dataclass(frozen=True)
class RepresentationConfig:
    """What is learned, from what."""

    objectives: tuple[ObjectiveConfig, ...] = ()
    encoder: EncoderConfig = SeveralEncoderConfig()
    dynamics: DynamicsConfig | None = None
    """None: an encoder alone."""


class Representation(nn.Module):
    """``forward(scene(steps))`` gives every loss of the objectives, and of the dynamics model if there is one.

    A loop of your own is some ten lines: see the README. A ``WorldModel`` is a representation with heads that rewards and ends
    are read off.

    Args:
        objectives: what is learned from; those whose momentum targets follow at one rate share a target encoder.
    """

    dynamics: Dynamics | None
    spec: Spec | None = None
    """What it observes, and the actions it is learned from, where it was made by ``from_config``."""
    made_from: RepresentationConfig | None = None
    """Its configuration, where it was made by ``from_config``."""

    def __init__(self, encoder: Encoder, objectives: Sequence[Objective], dynamics: Dynamics | None = None) -> None:
        super().__init__()
        self.encoder, self.dynamics = encoder, dynamics
        self.learn_from(objectives)

    @classmethod
    def from_config(cls, config: RepresentationConfig, spec: Spec) -> Representation:
        """Of observations of ``spec``, with first weights from torch's random state.

        Raises:
            ValueError: an objective that learns from latent features, and no dynamics model.
        """
        encoder = encoders.make(config.encoder, spec=spec)
        context: dict[str, Any] = {"spec": spec, "embed_dim": encoder.embed_dim, "patches": encoder.patches}
        dynamics = None
        if config.dynamics is not None:
            dynamics = known_dynamics.make(config.dynamics, embed_dim=encoder.embed_dim, action_dim=spec.action.dim)
            context |= {"feature_dim": dynamics.feature_dim, "deterministic_dim": dynamics.deterministic_dim}
        for one in config.objectives:
            if dynamics is None and "feature_dim" in known_objectives.needs(one):
                raise ValueError(
                    f"The objective {known_objectives.name(one)!r} learns from the features of a dynamics model: give one, "
                    "such as rssm."
                )
        made = cls(encoder, [known_objectives.make(one, **context) for one in config.objectives], dynamics)
        made.spec, made.made_from = spec, config
        return made

    @property
    def feature_dim(self) -> int:
        """F: of the latent features, or of the embedding where there is no dynamics model."""
        return self.encoder.embed_dim if self.dynamics is None else self.dynamics.feature_dim

    @property
    def feature_limits(self) -> tuple[float, float]:
        """What every latent feature lies between, up to rounding; infinite of an embedding."""
        return (-math.inf, math.inf) if self.dynamics is None else self.dynamics.feature_limits

    def belief(self, num_envs: int, *, draw: bool = True) -> Belief:
        """A belief about N environments, for an agent of your own to read; it begins before their first step.

        Without ``draw`` one history always gives the same features.

        Raises:
            ValueError: nobody said what it observes.
        """
        from worldmodel.belief import Belief  # which is about representations itself

        if self.spec is None:
            raise ValueError("This representation was not told what it observes: give worldmodel.Belief its spec.")
        return Belief(self, self.spec, num_envs, draw=draw)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Features [..., F] → observations [..., *shape] by name, by the decoders that objectives learned; {} without any.

        Where several give one back, it is by the first of them.
        """
        decoded: dict[str, Tensor] = {}
        for objective in self.objectives:
            if (decoder := cast(Objective, objective).decoder) is not None:
                decoded = decoder(features) | decoded
        return decoded

    def save(self, folder: str | Path) -> None:
        """Write configuration, spec and weights, which ``worldmodel.load_representation`` reads; an earlier one is replaced.

        Raises:
            ValueError: it was made by hand, of parts whose configuration nobody knows; the folder holds anything else.
        """
        from worldmodel.loading import REPRESENTATION, REPRESENTATION_WEIGHTS, write_representation
        from worldmodel.snapshots import check_replaceable, writing

        if self.spec is None or self.made_from is None:
            raise ValueError(
                "Only representations of Representation.from_config, or loaded ones, know how they are made."
            )
        check_replaceable(Path(folder), (REPRESENTATION, REPRESENTATION_WEIGHTS))
        with writing(Path(folder)) as beside:
            write_representation(self, self.made_from, self.spec, beside)

    def learn_from(self, objectives: Sequence[Objective]) -> None:
        """Take these objectives for one's own, and make the target encoders that they need: one for each rate."""
        self.objectives = nn.ModuleList(objectives)
        bootstrapped = [one for one in objectives if one.target == "momentum"]
        keys = [(round(one.rate(0.0), 9), round(one.rate(1.0), 9)) for one in bootstrapped]
        rates = {key: one.rate for key, one in zip(keys, bootstrapped, strict=True)}
        self.target_rates = list(rates.values())
        self.target_encoders = nn.ModuleList(copy.deepcopy(self.encoder).requires_grad_(False) for _ in rates)
        places = iter(list(rates).index(key) for key in keys)
        self._target_of = [next(places) if one.target == "momentum" else None for one in objectives]

    def load_encoder(self, encoder: Encoder) -> None:
        """Take the weights of another encoder of the same kind, for the target encoders as well."""
        for own in (self.encoder, *self.target_encoders):
            own.load_state_dict(encoder.state_dict())

    def scene(self, steps: Steps) -> Scene:
        """The batch [B, T] seen through this representation, as every loss reads it.

        Steps that carry stored latent states (in ``extras``) are one more, [B, T + 1]: the first is the context, whose state
        the sequence goes on from.
        """
        target = cast("Encoder | None", next(iter(self.target_encoders), None))
        names = self.dynamics.stored() if self.dynamics is not None else {}
        stored = {name: steps.extras[name][:, 0] for name in names if name in steps.extras}
        if self.dynamics is None or not stored:
            return Scene(self.encoder, self.dynamics, steps, target_encoder=target)
        kept = {name: value for name, value in steps.extras.items() if name not in stored}
        rest = steps._replace(extras=kept).select((slice(None), slice(1, None)))
        before, previous = self.dynamics.restore(stored), steps.action[:, 0]
        return Scene(self.encoder, self.dynamics, rest, before, previous, target)

    def forward(self, scene: Scene) -> Outcome:
        """Every loss: the dynamics' own, the objectives'. Pending writes are keyed by objective.

        Raises:
            ValueError: the sequences are shorter than an objective needs.
        """
        for objective in self.objectives:
            if scene.length < cast(Objective, objective).least_length:
                raise ValueError(
                    f"{type(objective).__name__} compares steps with later ones: give sequences of {objective.least_length} "
                    f"steps or more, got {scene.length}."
                )
        outcome = Outcome({})
        if self.dynamics is not None:
            valid = scene.valid.flatten()
            own = {name: ranks.mean(loss.flatten(), valid) for name, loss in scene.filtered.losses.items()}
            outcome.losses.update(own)
        for index, (objective, target) in enumerate(zip(self.objectives, self._target_of, strict=True)):
            one: Outcome = objective(scene.aim(None if target is None else cast(Encoder, self.target_encoders[target])))
            # Of two that call something alike, the later one's has its place behind it.
            for mine, given in ((outcome.losses, one.losses), (outcome.metrics, one.metrics)):
                mine.update({f"{name}-{index + 1}" if name in mine else name: value for name, value in given.items()})
            outcome.pending.update({f"objectives.{index}.{name}": value for name, value in one.pending.items()})
        return outcome

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        """Let each objective write what its forward left pending, and the target encoders follow."""
        for index, objective in enumerate(self.objectives):
            prefix = f"objectives.{index}."
            own = {name.removeprefix(prefix): value for name, value in pending.items() if name.startswith(prefix)}
            cast(Objective, objective).after_update(own, progress)
        for target, rate in zip(self.target_encoders, self.target_rates, strict=True):
            torch._foreach_lerp_(
                list[Tensor](target.parameters()), list[Tensor](self.encoder.parameters()), rate(progress)
            )
            # Running statistics, of an encoder of one's own that has them.
            for buffer, online in zip(target.buffers(), self.encoder.buffers(), strict=True):
                buffer.copy_(online)
