"""The blocks that more than one part is built from."""

from worldmodel.nn.ensemble import EnsembleMLP
from worldmodel.nn.layers import NormedLinear, SimNorm, initialise, mish, mlp
from worldmodel.nn.two_hot import TwoHot, symexp, symlog

__all__ = ["EnsembleMLP", "NormedLinear", "SimNorm", "TwoHot", "initialise", "mish", "mlp", "symexp", "symlog"]
