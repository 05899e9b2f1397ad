"""What encoder and dynamics learn from, one file a family. ``make("consistency", …)`` builds one by name."""

from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.generative import Reconstruction, ReconstructionConfig
from worldmodel.objectives.predictive import Consistency, ConsistencyConfig

make = objectives.make

__all__ = [
    "Consistency",
    "ConsistencyConfig",
    "Objective",
    "ObjectiveConfig",
    "Outcome",
    "Reconstruction",
    "ReconstructionConfig",
    "make",
    "objectives",
]
