"""Embedding and action → latent state, one file a kind. ``make("simnorm", embed_dim=…, action_dim=…)`` builds one."""

from worldmodel.dynamics.base import (
    Dynamics,
    DynamicsConfig,
    Filtered,
    State,
    compute_dtype,
    dynamics,
    map_state,
    state_at,
    where_first,
)
from worldmodel.dynamics.gaussian import GaussianRSSM, GaussianRSSMConfig, GaussianState
from worldmodel.dynamics.rssm import RSSM, RSSMConfig, RSSMState
from worldmodel.dynamics.simnorm import SimNormDynamics, SimNormDynamicsConfig, SimNormState

make = dynamics.make

__all__ = [
    "RSSM",
    "Dynamics",
    "DynamicsConfig",
    "Filtered",
    "GaussianRSSM",
    "GaussianRSSMConfig",
    "GaussianState",
    "RSSMConfig",
    "RSSMState",
    "SimNormDynamics",
    "SimNormDynamicsConfig",
    "SimNormState",
    "State",
    "compute_dtype",
    "dynamics",
    "make",
    "map_state",
    "state_at",
    "where_first",
]
