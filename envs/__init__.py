"""Any task as a Gymnasium vector environment: `make("CartPole-v1")`, `make("dmc/walker-walk", num_envs=8, workers=2)`.

Importing this package registers every task of the dm_control suite with Gymnasium as `dmc/<domain>-<task>`, without
importing dm_control, which happens when the first such task is made.
"""

from envs import dmc
from envs.make import make, make_single, task_names
from envs.opengl import RenderingError
from envs.vector import TaskDescription, TaskVectorEnv
from envs.workers import WorkerError, WorkerRestarted
from envs.wrappers import NonFiniteError, UnsupportedSpaceError

__all__ = [
    "NonFiniteError",
    "RenderingError",
    "TaskDescription",
    "TaskVectorEnv",
    "UnsupportedSpaceError",
    "WorkerError",
    "WorkerRestarted",
    "make",
    "make_single",
    "task_names",
]

dmc.register()
