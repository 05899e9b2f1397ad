"""How an agent acts on latent states, and what it learns from."""

from agents.behaviours.actor_critic import ActorCritic, ActorCriticConfig
from agents.behaviours.base import Behaviour, BehaviourConfig, Memory, behaviours
from agents.behaviours.planners import MPPIConfig, Plan, PlannerConfig
from agents.behaviours.shooting import Shooting, ShootingConfig
from agents.behaviours.temporal_difference import TemporalDifferenceConfig, TemporalDifferencePlanning

__all__ = [
    "ActorCritic",
    "ActorCriticConfig",
    "Behaviour",
    "BehaviourConfig",
    "MPPIConfig",
    "Memory",
    "Plan",
    "PlannerConfig",
    "Shooting",
    "ShootingConfig",
    "TemporalDifferenceConfig",
    "TemporalDifferencePlanning",
    "behaviours",
]
