"""Shooting planners: MPPI, CEM, iCEM, random shooting and gradient ascent, over any function from actions to returns."""

from agents.behaviours.planners.base import Plan, Planner, PlannerConfig, Returns, planners
from agents.behaviours.planners.gradient import GradientConfig, GradientPlanner
from agents.behaviours.planners.sampling import (
    CEM,
    ICEM,
    MPPI,
    CEMConfig,
    ICEMConfig,
    MPPIConfig,
    RandomShooting,
    RandomShootingConfig,
)

make = planners.make

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CEMConfig",
    "GradientConfig",
    "GradientPlanner",
    "ICEMConfig",
    "MPPIConfig",
    "Plan",
    "Planner",
    "PlannerConfig",
    "RandomShooting",
    "RandomShootingConfig",
    "Returns",
    "make",
    "planners",
]
