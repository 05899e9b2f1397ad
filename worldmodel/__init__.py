"""World models: self-supervised encoders and latent dynamics that learn a world from its rollouts."""

from worldmodel import data, dynamics, encoders, objectives, visualize
from worldmodel.belief import Belief
from worldmodel.loading import load, load_representation
from worldmodel.model import Rollout, WorldModel, WorldModelConfig
from worldmodel.representation import Representation, RepresentationConfig
from worldmodel.scene import Scene

__all__ = [
    "Belief",
    "Representation",
    "RepresentationConfig",
    "Rollout",
    "Scene",
    "WorldModel",
    "WorldModelConfig",
    "data",
    "dynamics",
    "encoders",
    "load",
    "load_representation",
    "objectives",
    "visualize",
]
