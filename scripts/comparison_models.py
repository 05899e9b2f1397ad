"""What compare_objectives.py trains: one encoder with each objective, and what stands beside it untrained."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

import agents
from agents.parts import exchanged_dynamics, objectives_named
from agents.published import dreamer_decoder
from worldmodel import Representation, RepresentationConfig, objectives
from worldmodel.data import Spec, Steps
from worldmodel.dynamics import dynamics as known_dynamics
from worldmodel.encoders import PatchEncoderConfig, SeveralEncoderConfig
from worldmodel.objectives import ObjectiveConfig
from worldmodel.objectives.joint import JointConfig
from worldmodel.objectives.spatial import RelativePositionConfig, SpatialCPCConfig

RANDOM, RANDOM_PATCHES = "random encoder", "random encoder of patches"
# The papers' numbers are of millions of pictures and updates; a recording has thousands.
SHORTENED: dict[str, dict[str, Any]] = {
    # At 0.99 the target would hardly leave its start.
    "byol": {"decay": 0.9},
    # Windows of TD-MPC2 have 4 steps.
    "consistency": {"horizon": 3},
    "deepcluster": {"prototypes": 300, "memory": 4096, "refit_every": 50},
    # A twentieth of what there is to learn from: else the picture asked about is in the queue, as a negative.
    "moco": {"queue": 512, "decay": 0.99},
    # Fewer than the pictures of a batch: more could not be used evenly.
    "prototypes": {"prototypes": 64, "frozen_updates": 50},
    "swav": {"prototypes": 64, "frozen_updates": 50},
}
SHIFT = 4 / 84  # of a picture's side, as in DrQ


def names_of(given: tuple[str, ...]) -> list[str]:
    """What is compared, in order: objectives, or several joined by a plus; all are those that the registry has."""
    further = [name for name in given if name != "all"]
    for name in further:
        objectives_named(name.split("+"))
    return list(dict.fromkeys((objectives.objectives.names() if "all" in given else []) + further))


def beside(models: list[RepresentationConfig]) -> dict[str, RepresentationConfig]:
    """The untrained models that stand beside these: one for each kind of encoder and of dynamics.

    What has no dynamics stands beside an encoder that others have with them: it is the same encoder.
    """
    found: dict[str, RepresentationConfig] = {}
    for patches, name in ((False, RANDOM), (True, RANDOM_PATCHES)):
        alike = [model for model in models if is_of_patches(model) == patches]
        kinds = list(dict.fromkeys(known_dynamics.name(one.dynamics) for one in alike if one.dynamics is not None))
        for kind in kinds or [None]:
            of_kind = (
                one for one in alike if kind is None or (one.dynamics and known_dynamics.name(one.dynamics) == kind)
            )
            if (model := next(of_kind, None)) is not None:
                own = name if kind == (kinds or [None])[0] else f"{name}, {kind}"
                found[own] = dataclasses.replace(model, objectives=())
    return found


def is_of_patches(model: RepresentationConfig) -> bool:
    return isinstance(model.encoder, SeveralEncoderConfig) and isinstance(model.encoder.images, PatchEncoderConfig)


def model_of(
    name: str, spec: Spec, *, size: str, dynamics: str, projector: tuple[int, ...], shorten: bool
) -> RepresentationConfig:
    """The encoder of a size with the objectives of this name, their projectors as wide as everybody's."""
    published = agents.recipe("dreamerv3", size).agent.model
    encoder = published.encoder
    assert isinstance(encoder, SeveralEncoderConfig)
    texts = name.split("+")
    configs = objectives_named(texts, decoder=dreamer_decoder(size))
    names = [objectives.objectives.name(config) for config in configs]
    for plain, config in zip(names, configs, strict=True):
        if "feature_dim" in objectives.objectives.needs(config):
            dynamics = dynamics or bringing(plain)
    changed = []
    for text, plain, config in zip(texts, names, configs, strict=True):
        given = {pair.partition("=")[0] for pair in text.partition(":")[0].split(",")[1:]}
        if shorten:
            shorter = {key: value for key, value in SHORTENED.get(plain, {}).items() if key not in given}
            config = dataclasses.replace(config, **shorter)
            config = shifted_by_share(config, given, spec, bool(dynamics))
        if "projector" in (field.name for field in dataclasses.fields(config)) and "projector" not in given:
            config = narrowed(config, projector, keeps_predictor="predictor" in given)
        changed.append(config)
    if "mae" in names:
        encoder = dataclasses.replace(encoder, images=PatchEncoderConfig(units=64, layers=2, heads=4))
    chosen = exchanged_dynamics(dynamics, published.dynamics, size) if dynamics else None
    return RepresentationConfig(tuple(changed), encoder, chosen)


def bringing(objective: str) -> str:
    """The dynamics that learn from this objective and from nothing else, as simnorm from consistency; rssm for all others."""
    kinds = (name for name in known_dynamics.names() if objective in known_dynamics.config_class(name).objectives)
    return next(kinds, "rssm")


def told_of(model: RepresentationConfig, shared: str = "") -> str:
    """What tells this row from those of encoders that are trained alone, on whole pictures: its dynamics, pairs and pictures.

    Args:
        shared: the dynamics that all rows have.
    """
    told = []
    if model.dynamics is not None and (kind := known_dynamics.name(model.dynamics)) != shared:
        told.append(f"with {kind}")
    for config in model.objectives:
        if isinstance(config, JointConfig):
            told.append(config.paired(model.dynamics is not None))
        if isinstance(config, RelativePositionConfig | SpatialCPCConfig):
            told.append("enlarged patches")
    return ", ".join([*dict.fromkeys(told), *["patch encoder"] * is_of_patches(model)])


def narrowed(config: ObjectiveConfig, projector: tuple[int, ...], *, keeps_predictor: bool = False) -> ObjectiveConfig:
    """With this projector, and the paper's predictor, if that is what it has, as many times as wide as its outputs as there."""
    changed: dict[str, Any] = {"projector": projector}
    paper = type(config)()
    predictor = getattr(config, "predictor", None)
    if projector and predictor is not None and not keeps_predictor:
        changed["predictor"] = max(1, predictor * projector[-1] // paper.projector[-1])  # type: ignore[attr-defined]
    return dataclasses.replace(config, **changed)


def shifted_by_share(config: Any, given: set[str], spec: Spec, with_dynamics: bool, inside: str = "") -> Any:
    """A configuration, its own or that of its augmentation, with the paper's shift as a share of the pictures' side.

    Not where it was given, nor where it is no views that are paired.
    """
    sides = [entry.shape[0] for entry in spec.observation.values() if entry.kind == "image"]
    changed: dict[str, Any] = {}
    if sides and hasattr(config, "shift") and f"{inside}shift" not in given:
        changed["shift"] = max(1, round(SHIFT * min(sides)))
    of_views = not isinstance(config, JointConfig) or config.paired(with_dynamics) == "views"
    if getattr(config, "augmentation", None) is not None and of_views:
        changed["augmentation"] = shifted_by_share(config.augmentation, given, spec, with_dynamics, "augmentation.")
    return dataclasses.replace(config, **changed)


def what_hinders(model: RepresentationConfig, spec: Spec) -> str:
    """Why an objective cannot learn from what is observed; "" where it can."""
    try:
        with torch.random.fork_rng([]):
            Representation.from_config(model, spec)
    except ValueError as error:
        return str(error)
    return ""


def teaches_dynamics(representation: Representation, steps: Steps) -> bool:
    """Whether the objectives, and not the dynamics' own loss alone, have a gradient in the dynamics for steps [B, T]."""
    if representation.dynamics is None:
        return False
    with torch.enable_grad():
        scene = representation.scene(steps)
        losses = representation(scene).losses
        learned = [loss for name, loss in losses.items() if name not in scene.filtered.losses and loss.requires_grad]
        if not learned:
            return False
        weights = [weight for weight in representation.dynamics.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(torch.stack(learned).sum(), weights, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)
