"""Agents: a world model's belief, and a behaviour that acts on it."""

from agents.agent import Agent, AgentConfig
from agents.evaluation import Evaluation, evaluate
from agents.execution import Execution, ExecutionConfig
from agents.parts import Parts, with_objectives, with_parts
from agents.pretraining import Pretrainer, PretrainingConfig
from agents.recipe_config import Recipe
from agents.recipes import RECIPES, make, recipe, with_encoder
from agents.run import RunConfig, train
from agents.tasks import task_arguments
from agents.trainer_config import TrainerConfig
from agents.watching import load_recording

__all__ = [
    "RECIPES",
    "Agent",
    "AgentConfig",
    "Evaluation",
    "Execution",
    "ExecutionConfig",
    "Parts",
    "Pretrainer",
    "PretrainingConfig",
    "Recipe",
    "RunConfig",
    "TrainerConfig",
    "evaluate",
    "load_recording",
    "make",
    "recipe",
    "task_arguments",
    "train",
    "with_encoder",
    "with_objectives",
    "with_parts",
]
