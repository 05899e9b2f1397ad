"""`make`: any task as a vector environment, in this process or spread over worker processes."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs import dmc, opengl, suites
from envs.checks import (
    IMAGE_SIZE,
    check_distractions,
    check_hidden,
    check_integer,
    check_numbers,
    check_options,
    check_views,
    renders,
)
from envs.distractions import with_strength
from envs.sentences import EXAMPLE
from envs.task_config import TaskConfig
from envs.vector import InProcessVectorEnv, TaskDescription, TaskVectorEnv
from envs.workers import WorkerVectorEnv

log = logging.getLogger("worldmodel")


def task_names() -> list[str]:
    """Every name that `make` accepts, sorted: Gymnasium's registry, with the suites whose packages are installed."""
    suites.register_installed()
    return sorted(name for name, spec in gymnasium.registry.items() if spec.entry_point is not None)


def make(
    task: str,
    *,
    observation: str = "state",
    image_size: int = IMAGE_SIZE,
    fast_rendering: bool = False,
    distractions: Sequence[str] = (),
    hide: Sequence[str | int] = (),
    sentences: str | None = None,
    num_envs: int = 1,
    action_repeat: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    time_limit: int | None = None,
    render_mode: str | None = None,
    deadline: float = 60.0,
    **options: Any,
) -> TaskVectorEnv:
    """Make the environments of a task, as one vector environment in SAME_STEP autoreset mode.

    Observations: vectors are float32 [num_envs, D], images uint8 [num_envs, H, W, C], discrete ones as they are, in a
    Dict where the task has one. Actions: continuous ones are float32 [num_envs, A] in [-1, 1], discrete ones as they
    are. Every episode has its own seed, derived from `seed`, the environment's index and the episode's number.

    Args:
        task: a Gymnasium id ("CartPole-v1", or "module:Id-v0" to import its module first) or a task of a suite
            ("dmc/walker-walk", "ale/Pong", "crafter/reward", "minigrid/DoorKey-5x5"); `task_names()` lists them.
        observation: "state", which is whatever the task itself observes, or "pixels", its rendered frame as the entry
            "image" of a Dict; Atari and Crafter show pixels either way. "both" are the two beside each other.
        image_size: height and width of those frames.
        fast_rendering: draw dm_control tasks without shadows, reflections and multisampling: the pixels differ.
        distractions: what those frames show besides, each with or without a strength: "step-noise", "episode-noise:0.2",
            "colour", "background:0.5", "camera" (`envs.distractions`).
        hide: parts of the task's own observation that are left out, so that what is seen no longer tells the state: keys of a
            Dict, places in a vector, or "velocity" where the toolkit knows which those are (`envs.hiding`).
        sentences: a pretrained model of sentence-transformers ("all-MiniLM-L6-v2", or its folder) that reads the observation's
            texts, which are its embeddings then, float32 [num_envs, D] (`envs.sentences`); None leaves them texts.
        num_envs: how many environments.
        action_repeat: environment steps per decision; None for 2 on dm_control tasks, 4 on Atari and 1 elsewhere.
        seed: base seed, at least 0.
        workers: how many processes the environments are spread over; None or 0 for this process.
        time_limit: of an episode in environment steps (not decisions); None for the task's own.
        render_mode: "rgb_array" for frames from `render()`.
        deadline: seconds after which a worker that does not answer counts as hung.
        **options: passed to the task.

    Raises:
        TypeError: the task is not given by its name.
        ValueError: an argument is wrong, the task is unknown, or its spaces are not accepted (`UnsupportedSpaceError`).
        WorkerError: a worker process could not be started.
    """
    arguments = {key: value for key, value in locals().items() if key != "options"} | options
    if not isinstance(distractions, str):  # which is refused below
        arguments["distractions"] = tuple(map(with_strength, distractions))
    config, description = _planned(arguments, options)
    environments = [partial(config.build, index) for index in range(num_envs)]
    if workers:
        return WorkerVectorEnv(environments, workers, description=description, deadline=deadline)
    with _makeable(task):
        return InProcessVectorEnv(environments, description=description)


def make_single(task: str, *, index: int = 0, **arguments: Any) -> gymnasium.Env:
    """One environment, for libraries that want them one by one: what `make` has at `index`, which tells equal seeds apart.

    `gymnasium.make` makes another one from its `spec`.

    Args:
        task: as for `make`.
        index: among the environments of one seed.
        **arguments: of `make`, those of several environments (`num_envs`, `workers`, `deadline`) left out.

    Raises:
        TypeError, ValueError: as `make`.
    """
    for name in ("num_envs", "workers", "deadline"):
        if name in arguments:
            raise ValueError(f"{name} is of vector environments, of which make_single makes none; use envs.make.")
    check_integer("index", index, 0)
    bound = inspect.signature(make).bind(task, **arguments)
    bound.apply_defaults()
    options = bound.arguments.pop("options")
    config, description = _planned({**bound.arguments, **options}, options)
    with _makeable(task):
        one = config.build(index)
    one.made = EnvSpec(
        task.rpartition(":")[2],
        "envs:make_single",
        max_episode_steps=description.episode_length,
        disable_env_checker=True,
        kwargs={"task": task, "index": index, **arguments},
    )
    return one


def _planned(arguments: dict[str, Any], options: dict[str, Any]) -> tuple[TaskConfig, TaskDescription]:
    """What the arguments of `make`, of which the `options` go to the task, come to; raises as `make` does."""
    task, observation, time_limit, render_mode = (
        arguments[name] for name in ("task", "observation", "time_limit", "render_mode")
    )
    fast_rendering, distractions, hide = (arguments[name] for name in ("fast_rendering", "distractions", "hide"))
    spec, suite = _find(task), suites.suite_of(task)
    own = [name for name in inspect.signature(make).parameters if name not in ("task", "options")]
    check_options(task, spec, options, own)
    action_repeat = arguments["action_repeat"]
    if action_repeat is None:
        action_repeat = suite.action_repeat if suite else 1
    check_numbers(arguments | {"action_repeat": action_repeat, "workers": arguments["workers"] or 0})
    if fast_rendering:
        options = {**options, "fast_rendering": True}
    pixels = observation != "state" or (suite is not None and suite.seen)
    check_views(task, spec, observation, pixels, fast_rendering, render_mode)
    if arguments["image_size"] != IMAGE_SIZE and not pixels:
        log.warning(
            "image_size=%s has no effect where no frames are observed: observation='pixels' or 'both' would have it.",
            arguments["image_size"],
        )
    check_distractions(distractions, pixels)
    check_hidden(hide, observation)
    sentences = arguments["sentences"]
    if sentences is not None and not (isinstance(sentences, str) and sentences):
        raise ValueError(
            f"sentences={sentences!r} is not accepted; give a model's name or folder, such as {EXAMPLE!r}."
        )
    config = TaskConfig(
        spec,
        arguments["seed"],
        action_repeat,
        time_limit,
        "rgb_array" if pixels else render_mode,
        tuple(hide),
        arguments["image_size"] if pixels else None,
        observation == "both",
        tuple(distractions),
        sentences,
        options,
    )
    limit = spec.max_episode_steps if time_limit is None else time_limit
    description = TaskDescription(
        task=task,
        action_repeat=action_repeat,
        episode_length=None if limit is None or limit < 1 else math.ceil(limit / action_repeat),
        seed=arguments["seed"],
        terminates=spec.namespace != "dmc" or spec.kwargs["domain"] in dmc.TERMINATING,
        renders=partial(_draws_here, spec),
        arguments=arguments,
        remake=partial(make, **arguments),
    )
    return config, description


@contextlib.contextmanager
def _makeable(task: str) -> Iterator[None]:
    try:
        yield
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{task} cannot be made here: {_first_line(error)}") from error


def _find(task: str) -> EnvSpec:
    if not isinstance(task, str):
        raise TypeError(f"task={task!r} is not a name; give one such as 'CartPole-v1' or 'dmc/walker-walk'.")
    suites.register(task)
    module, _, name = task.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"The module of {task!r} is not found: {error}; install what defines the task.") from None
    spec, names = gymnasium.registry.get(name), None
    if spec is None:  # it may be a suite's own name, as in ALE/Pong-v5
        names = task_names()
        spec = gymnasium.registry.get(name)
    if ours := suites.own_name(name):
        raise ValueError(f"{name} observes its mission in a space of its own: give {ours}, the same task otherwise.")
    if spec is not None and spec.entry_point is not None:
        return spec
    names = names or task_names()
    # Compared without case, so that "dmc/Walker_Walk" and "cartpole" find their names.
    folded = {candidate.casefold(): candidate for candidate in names}
    nearest = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    advice = f"did you mean {', '.join(nearest)}?" if nearest else "envs.task_names() lists the tasks."
    raise ValueError(f"There is no task {task!r}; {advice}")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _draws_here(spec: EnvSpec) -> bool:
    """Whether the task gives frames on this machine: MuJoCo's tasks need OpenGL."""
    if not renders(spec) or (spec.namespace != "dmc" and "mujoco" not in str(spec.entry_point)):
        return renders(spec)
    opengl.choose_backend()
    if not (works := opengl.rendering_works()):
        log.warning("Episodes are not filmed. %s", opengl.MISSING)
    return works
