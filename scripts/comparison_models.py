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
from worldmodel.data.augmentation import AugmentationConfig
from worldmodel.encoders import PatchEncoderConfig, SeveralEncoderConfig
from worldmodel.objectives import ObjectiveConfig
from worldmodel.objectives.joint import JointConfig

RANDOM, RANDOM_PATCHES = "random encoder", "random encoder of patches"
# The papers' numbers are of millions of pictures and updates; a recording has thousands.
SHORTENED: dict[str, dict[str, Any]] = {
    # At 0.996 the target would hardly leave its start.
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
    """The objectives named, in order; all are those that the registry has."""
    further = [name for name in given if name != "all"]
    objectives_named(further)
    return list(dict.fromkeys((objectives.objectives.names() if "all" in given else []) + further))


def beside(models: list[RepresentationConfig]) -> dict[str, RepresentationConfig]:
    """The untrained models that stand beside these: one for each kind of encoder, with dynamics where any has them."""
    dynamics = next((model.dynamics for model in models if model.dynamics is not None), None)
    found = {}
    for model in models:
        name = RANDOM_PATCHES if is_of_patches(model) else RANDOM
        found.setdefault(name, dataclasses.replace(model, objectives=(), dynamics=dynamics))
    return {name: found[name] for name in (RANDOM, RANDOM_PATCHES) if name in found}


def is_of_patches(model: RepresentationConfig) -> bool:
    return isinstance(model.encoder, SeveralEncoderConfig) and isinstance(model.encoder.images, PatchEncoderConfig)


def model_of(
    name: str, spec: Spec, *, size: str, dynamics: str, projector: tuple[int, ...], shorten: bool
) -> RepresentationConfig:
    """The encoder of a size with the objective of this name, its projector as wide as everybody's."""
    published = agents.recipe("dreamerv3", size).agent.model
    encoder = published.encoder
    assert isinstance(encoder, SeveralEncoderConfig)
    (config,) = objectives_named([name], decoder=dreamer_decoder(size))
    plain = objectives.objectives.name(config)
    if "feature_dim" in objectives.objectives.needs(config):
        dynamics = dynamics or "rssm"
    if shorten:
        paper = objectives.objectives.config(plain)
        shorter = SHORTENED.get(plain, {}).items()
        config = dataclasses.replace(config, **{k: v for k, v in shorter if getattr(config, k) == getattr(paper, k)})
        config = shifted_by_share(config, paper, spec, bool(dynamics))
    if "projector" in (field.name for field in dataclasses.fields(config)):
        config = narrowed(config, projector)
    if plain == "mae":
        encoder = dataclasses.replace(encoder, images=PatchEncoderConfig(units=64, layers=2, heads=4))
    chosen = exchanged_dynamics(dynamics, published.dynamics, size) if dynamics else None
    return RepresentationConfig((config,), encoder, chosen)


def narrowed(config: ObjectiveConfig, projector: tuple[int, ...]) -> ObjectiveConfig:
    """With this projector, and the paper's predictor, if that is what it has, as many times as wide as its outputs as there."""
    changed: dict[str, Any] = {"projector": projector}
    paper = type(config)()
    predictor = getattr(config, "predictor", None)
    if projector and predictor is not None and predictor == paper.predictor:  # type: ignore[attr-defined]
        changed["predictor"] = max(1, predictor * projector[-1] // paper.projector[-1])  # type: ignore[attr-defined]
    return dataclasses.replace(config, **changed)


def shifted_by_share(config: Any, paper: Any, spec: Spec, with_dynamics: bool) -> Any:
    """A configuration, its own or that of its augmentation, with the paper's shift as a share of the pictures' side.

    Not where it is no views that are paired.
    """
    sides = [entry.shape[0] for entry in spec.observation.values() if entry.kind == "image"]
    changed: dict[str, Any] = {}
    if sides and hasattr(config, "shift") and config.shift == paper.shift:
        changed["shift"] = max(1, round(SHIFT * min(sides)))
    of_views = not isinstance(config, JointConfig) or config.paired(with_dynamics) == "views"
    if getattr(config, "augmentation", None) is not None and of_views:
        of_paper = paper.augmentation or AugmentationConfig()
        changed["augmentation"] = shifted_by_share(config.augmentation, of_paper, spec, with_dynamics)
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
