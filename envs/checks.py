"""What `make` is given, looked at before anything is made: one sentence for what cannot be."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from envs.distractions import distraction

IMAGE_SIZE = 64


def check_numbers(arguments: dict[str, Any]) -> None:
    """Raise ValueError, naming it, for a number that ``make`` cannot take."""
    least = {"image_size": 1, "num_envs": 1, "action_repeat": 1, "seed": 0, "workers": 0}
    for name, minimum in least.items():
        check_integer(name, arguments[name], minimum)
    num_envs, workers, deadline = (arguments[name] for name in ("num_envs", "workers", "deadline"))
    if workers > num_envs:
        raise ValueError(f"workers={workers} is more than num_envs={num_envs}; use workers={num_envs} or fewer.")
    if arguments["time_limit"] is not None:
        check_integer("time_limit", arguments["time_limit"], 1)
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline < math.inf:
        raise ValueError(f"deadline={deadline!r} is not accepted; give a number of seconds above 0, such as 60.0.")
    if "max_episode_steps" in arguments:
        raise ValueError("max_episode_steps is given as time_limit here; use time_limit=...")


def check_views(
    task: str, spec: EnvSpec, observation: str, pixels: bool, fast_rendering: bool, render_mode: str | None
) -> None:
    """Raise ValueError where the task cannot be seen as is asked."""
    if observation not in ("state", "pixels", "both"):
        raise ValueError(f"observation={observation!r} is not available; use observation='state', 'pixels' or 'both'.")
    if fast_rendering and spec.namespace != "dmc":
        raise ValueError("fast_rendering=True is for dm_control tasks alone; leave it out.")
    if pixels and not renders(spec):
        raise ValueError(f"{task} renders no frames (render_mode='rgb_array'): use observation='state'.")
    if render_mode is not None and not renders(spec, render_mode):
        modes = ", ".join(repr(mode) for mode in render_modes(spec) or ()) or "none"
        raise ValueError(f"{task} has no render_mode={render_mode!r}; it has {modes}.")


def check_distractions(distractions: Sequence[str], pixels: bool) -> None:
    if isinstance(distractions, str):
        raise ValueError(f"distractions={distractions!r} is not accepted; give a list, [{distractions!r}].")
    for given in distractions:
        distraction(given)
    if distractions and not pixels:
        raise ValueError("distractions change pixels, and none are observed; add observation='pixels' or 'both'.")


def check_hidden(hide: Sequence[str | int], observation: str) -> None:
    if isinstance(hide, str | int):
        raise ValueError(f"hide={hide!r} is not accepted; give a list, [{hide!r}].")
    if hide and observation == "pixels":
        raise ValueError(
            "hide leaves out parts of the task's own observation, and only its frames are observed; leave it out."
        )


def creator_of(spec: EnvSpec) -> Any:
    """What makes the task's environments; None where that cannot even be imported."""
    try:
        return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except (gymnasium.error.Error, ImportError, AttributeError):
        return None


def render_modes(spec: EnvSpec) -> list[str] | None:
    """As far as can be seen without making the task; None where nothing is said."""
    return getattr(creator_of(spec), "metadata", {}).get("render_modes")


def renders(spec: EnvSpec, mode: str = "rgb_array") -> bool:
    """Whether the task gives frames, as far as can be seen without making it."""
    modes = render_modes(spec)
    return modes is None or mode in modes


def check_options(task: str, spec: EnvSpec, options: dict[str, Any], own: Sequence[str]) -> None:
    """Raise ValueError for an argument that neither ``make``, which has its ``own``, nor the task has, with the nearest."""
    creator = creator_of(spec)
    if creator is None:
        return
    known = inspect.signature(creator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    names = [*own, *(name for name in known if name not in own)]
    for option in options:
        if option not in known and option != "max_episode_steps":
            nearest = difflib.get_close_matches(option, names, n=2, cutoff=0.5)
            advice = f"did you mean {' or '.join(nearest)}?" if nearest else f"accepted are {', '.join(names)}."
            raise ValueError(f"{task} has no argument {option!r}; {advice}")


def check_integer(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        example = {"image_size": 64}.get(name, minimum)
        raise ValueError(
            f"{name}={value!r} is not accepted; give a whole number of at least {minimum}, such as {name}={example}."
        )
