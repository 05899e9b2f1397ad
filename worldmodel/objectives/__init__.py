"""What encoder and dynamics learn from, one file a family. ``make("consistency", …)`` builds one by name."""

from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.objectives.bootstrap import BYOL, BYOLConfig, SimSiam, SimSiamConfig
from worldmodel.objectives.clustering import (
    DeepCluster,
    DeepClusterConfig,
    Prototypes,
    PrototypesConfig,
    SwAV,
    SwAVConfig,
)
from worldmodel.objectives.contrastive import (
    CURL,
    CURLConfig,
    InfoNCE,
    InfoNCEConfig,
    MoCo,
    MoCoConfig,
    NTXent,
    NTXentConfig,
)
from worldmodel.objectives.cpc import CPC, CPCConfig
from worldmodel.objectives.forecast import SPR, BYOLExplore, BYOLExploreConfig, NextLatent, NextLatentConfig, SPRConfig
from worldmodel.objectives.generative import (
    Denoising,
    DenoisingConfig,
    Inpainting,
    InpaintingConfig,
    Reconstruction,
    ReconstructionConfig,
    Variational,
    VariationalConfig,
)
from worldmodel.objectives.joint import JointConfig, JointEmbedding
from worldmodel.objectives.patches import MAE, MAEConfig
from worldmodel.objectives.predictive import Consistency, ConsistencyConfig, NextFrame, NextFrameConfig
from worldmodel.objectives.redundancy import (
    WMSE,
    Barlow,
    BarlowConfig,
    BarlowTwins,
    BarlowTwinsConfig,
    SIGReg,
    SIGRegConfig,
    VICReg,
    VICRegConfig,
    WMSEConfig,
)
from worldmodel.objectives.sequences import MaskedTrajectory, MaskedTrajectoryConfig, Tokens, TokensConfig
from worldmodel.objectives.spatial import (
    RelativePosition,
    RelativePositionConfig,
    Rotation,
    RotationConfig,
    SpatialCPC,
    SpatialCPCConfig,
)
from worldmodel.objectives.text import TextPairs, TextPairsConfig

make = objectives.make

__all__ = [
    "BYOL",
    "CPC",
    "CURL",
    "MAE",
    "SPR",
    "WMSE",
    "BYOLConfig",
    "BYOLExplore",
    "BYOLExploreConfig",
    "Barlow",
    "BarlowConfig",
    "BarlowTwins",
    "BarlowTwinsConfig",
    "CPCConfig",
    "CURLConfig",
    "Consistency",
    "ConsistencyConfig",
    "DeepCluster",
    "DeepClusterConfig",
    "Denoising",
    "DenoisingConfig",
    "InfoNCE",
    "InfoNCEConfig",
    "Inpainting",
    "InpaintingConfig",
    "JointConfig",
    "JointEmbedding",
    "MAEConfig",
    "MaskedTrajectory",
    "MaskedTrajectoryConfig",
    "MoCo",
    "MoCoConfig",
    "NTXent",
    "NTXentConfig",
    "NextFrame",
    "NextFrameConfig",
    "NextLatent",
    "NextLatentConfig",
    "Objective",
    "ObjectiveConfig",
    "Outcome",
    "Prototypes",
    "PrototypesConfig",
    "Reconstruction",
    "ReconstructionConfig",
    "RelativePosition",
    "RelativePositionConfig",
    "Rotation",
    "RotationConfig",
    "SIGReg",
    "SIGRegConfig",
    "SPRConfig",
    "SimSiam",
    "SimSiamConfig",
    "SpatialCPC",
    "SpatialCPCConfig",
    "SwAV",
    "SwAVConfig",
    "TextPairs",
    "TextPairsConfig",
    "Tokens",
    "TokensConfig",
    "VICReg",
    "VICRegConfig",
    "Variational",
    "VariationalConfig",
    "WMSEConfig",
    "make",
    "objectives",
]
