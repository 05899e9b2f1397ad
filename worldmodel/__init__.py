"""World models: self-supervised encoders and latent dynamics that learn a world from its rollouts."""

from worldmodel import data, dynamics, encoders, objectives, visualize
from worldmodel.loading import load
from worldmodel.model import Rollout, WorldModel, WorldModelConfig
from worldmodel.representation import Representation
from worldmodel.scene import Scene

__all__ = [
    "Representation",
    "Rollout",
    "Scene",
    "WorldModel",
    "WorldModelConfig",
    "data",
    "dynamics",
    "encoders",
    "load",
    "objectives",
    "visualize",
]
