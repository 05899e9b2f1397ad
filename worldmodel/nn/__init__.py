"""The blocks that more than one part is built from."""

from worldmodel.nn.ensemble import EnsembleMLP
from worldmodel.nn.layers import LayerKind, NormedLinear, SimNorm, hidden_layers, initialise, mish, readout
from worldmodel.nn.two_hot import TwoHot, symexp, symlog

__all__ = [
    "EnsembleMLP",
    "LayerKind",
    "NormedLinear",
    "SimNorm",
    "TwoHot",
    "hidden_layers",
    "initialise",
    "mish",
    "readout",
    "symexp",
    "symlog",
]
