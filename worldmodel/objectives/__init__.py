"""What encoder and dynamics learn from, one file a family. ``make("consistency", …)`` builds one by name."""

from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.clustering import Prototypes, PrototypesConfig
from worldmodel.objectives.contrastive import InfoNCE, InfoNCEConfig
from worldmodel.objectives.generative import Reconstruction, ReconstructionConfig
from worldmodel.objectives.predictive import Consistency, ConsistencyConfig
from worldmodel.objectives.redundancy import Barlow, BarlowConfig

make = objectives.make

__all__ = [
    "Barlow",
    "BarlowConfig",
    "Consistency",
    "ConsistencyConfig",
    "InfoNCE",
    "InfoNCEConfig",
    "Objective",
    "ObjectiveConfig",
    "Outcome",
    "Prototypes",
    "PrototypesConfig",
    "Reconstruction",
    "ReconstructionConfig",
    "make",
    "objectives",
]
