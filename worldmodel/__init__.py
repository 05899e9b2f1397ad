"""World models: self-supervised encoders and latent dynamics that learn a world from its rollouts."""

from worldmodel import data, dynamics, encoders, objectives
from worldmodel.loading import load
from worldmodel.model import Imagination, WorldModel, WorldModelConfig

__all__ = ["Imagination", "WorldModel", "WorldModelConfig", "data", "dynamics", "encoders", "load", "objectives"]
