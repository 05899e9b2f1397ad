"""Recordings to and from Minari, where the community keeps its rollouts (https://minari.farama.org).

    pip install --editable '.[minari]'

For exchange, not for training: to read a window there, whole episodes are decoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from worldmodel.data.actions import ActionSpec
from worldmodel.data.episode_files import check_same_task, identity, next_number, taking_over
from worldmodel.data.recording import Recorder, Recording
from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps

log = logging.getLogger("worldmodel")

AT_ONCE = 20  # episodes in memory while a dataset is written


def to_minari(recording: Recording, name: str, *, jpeg: bool = False, **about: Any) -> None:
    """Write a recording as the Minari dataset ``name``, such as "reacher/random-v0", in Minari's own folder.

    Observations keep their stored form: vectors flat, in a Dict. Actions lie between the bounds of the dataset they came from,
    if they came from one, else in [-1, 1], as ``envs.make`` takes them. How each part of the recording was made, its rendering
    included, is in the dataset's description, as JSON.

    Args:
        jpeg: store pictures as Minari does unless told, as JPEG: smaller, and no longer what was seen. That is said.
        about: of the dataset, such as ``author="…"`` and ``algorithm_name="random"``.

    Raises:
        ValueError: a name that is none of Minari's; no whole episode; texts, of which the numbers of their words alone are kept;
            entries whose names have a "/", which Minari reads as folders; a dataset of this name is there already.
    """
    minari = _package()
    _check_name(name)
    if nested := [key for key in recording.spec.observation if "/" in key]:
        raise ValueError(f"{nested[0]!r} is a name that Minari reads as an entry within another: it cannot be written.")
    if texts := [key for key, entry in recording.spec.observation.items() if entry.text]:
        raise ValueError(
            f"{texts[0]!r} is a text, of which a recording keeps no more than hashed words: it cannot be written."
        )
    if name in minari.list_local_datasets():
        raise ValueError(f"Minari has a dataset {name!r} already: delete it, or give a name with the next version.")
    if jpeg and any(entry.kind == "image" for entry in recording.spec.observation.values()):
        log.warning("JPEG loses something of every picture: what is read back is not what was recorded.")
    spec = dataclasses.replace(recording.spec, action=_action_of(recording))
    observation, action = spec.spaces()
    about = {"description": json.dumps(recording.made), "data_format": "hdf5", "jpeg_encoding": jpeg} | about
    if not len(recording):
        raise ValueError(f"{recording.folder} holds no whole episode.")
    with _whole_or_not_at_all(name):
        dataset = None
        for buffers in _batches(_buffer(steps, spec) for steps in recording.episodes()):
            if dataset is None:
                dataset = minari.create_dataset_from_buffers(
                    name, buffers, observation_space=observation, action_space=action, **about
                )
            else:
                dataset.update_dataset_from_buffer(buffers)


def _dataset(name: str) -> Any:
    """Minari's dataset, downloaded where it is not here."""
    minari = _package()
    if name in minari.list_local_datasets():
        return minari.load_dataset(name)
    try:
        return minari.load_dataset(name, download=True)
    except Exception as error:  # whatever the servers, and what lies on the way there, answer
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise FileNotFoundError(
            f"The dataset {name!r} is not here, and could not be had from Minari: {first[0]}"
        ) from error


def from_minari(name: str, folder: str | Path) -> Recording:
    """Record the episodes of the Minari dataset ``name`` in ``folder``; one that Minari does not have here, it downloads.

    Actions are stored in [-1, 1] between the bounds of the dataset's space, as ``envs.make`` takes them, so that the recording
    fits the environments of the same task. An episode without an end counts as one that was cut by a time limit. Rewards, and
    observations but for uint8 pictures, are kept as float32, texts as hashed words, infos not at all: where that loses something
    of what was observed or told, it is said.

    Episodes that are there already are not taken twice: what was interrupted goes on when it is done again.

    Raises:
        FileNotFoundError: it is not here, and could not be downloaded.
        ValueError: a name that is none of Minari's; spaces that have no stored form; ``folder`` holds a recording of other
            spaces, or of another task; a number that is not finite.
    """
    _package()
    _check_name(name)
    dataset = _dataset(name)
    own = Spec.from_spaces(dataset.observation_space, dataset.action_space)
    spec = dataclasses.replace(own, action=own.action.standard())
    environment = getattr(dataset.spec, "env_spec", None)
    known_task = {} if environment is None else _task(environment)
    source = f"minari:{name}"
    # What it is written back with.
    bounds = {} if own.action == spec.action else {"action_space": own.to_dict()["action"]}
    made = [
        facts | {"minari": name} | known_task | bounds for facts in _told(dataset.storage.metadata.get("description"))
    ]
    if next_number(Path(folder)):
        check_same_task(Path(folder), Recording(folder).facts, made[0].get("task") or {})
    recorder = Recorder(folder, spec, 1, made[0])
    known = {identity(file) for file in Recording(folder).files}
    outside = total = 0
    informed = rounded = False
    with taking_over(recorder.folder, source, made):
        wanted = [number for number in dataset.episode_indices.tolist() if f"{source}/{number}" not in known]
        for number, episode in zip(wanted, dataset.iterate_episodes(wanted), strict=True):
            recorder.add_episode(_steps(episode, own), f"{source}/{number}")
            outside, total = outside + _outside(episode.actions, own), total + len(episode.actions)
            informed = informed or bool(episode.infos)
            rounded = rounded or not np.array_equal(np.float32(episode.rewards), episode.rewards, equal_nan=True)
    wider = sorted({str(dtype) for dtype in _dtypes(dataset.observation_space) if np.dtype(dtype).itemsize > 4})
    lost = [
        *(f"{dtype} observations are kept as float32" for dtype in wider),
        *["rewards are rounded to float32"] * rounded,
        *(
            f"of the text {key!r} the hashes of its words are kept"
            for key, entry in spec.observation.items()
            if entry.text
        ),
        *["infos are not kept"] * informed,
    ]
    if lost:
        log.warning("Of %s, %s.", name, " and ".join(lost))
    if outside:
        log.warning(
            "%s of the %s actions of %s lie outside the bounds of its own space, and were put on them, as environments do.",
            f"{outside:,}", f"{total:,}", name,
        )  # fmt: skip
    return Recording(folder)


@contextlib.contextmanager
def _whole_or_not_at_all(name: str) -> Iterator[None]:
    """Have Minari write the dataset into a hidden folder, which it does not list, and put it in place once it is whole.

    Minari adds episodes to a dataset in place: one that was interrupted would read as a whole one of fewer episodes.
    """
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    root, variable = get_dataset_path(), "MINARI_DATASETS_PATH"
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=root) as apart:
        before = os.environ.get(variable)
        os.environ[variable] = apart
        try:
            yield
        finally:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before
        namespace = str(Path(name).parent)
        if namespace != "." and namespace not in list_local_namespaces():
            create_namespace(namespace)
        os.rename(Path(apart) / name, root / name)


def _dtypes(space: spaces.Space[Any]) -> Iterator[Any]:
    """Of the numbers in a space, wherever they are."""
    if isinstance(space, spaces.Dict):
        for inner in space.values():
            yield from _dtypes(inner)
    elif isinstance(space, spaces.Box):
        yield space.dtype


def _outside(actions: Any, spec: Spec) -> int:
    """How many actions [N, ...] are beyond a continuous space's bounds, by more than rounding."""
    if spec.action.discrete:
        return 0
    rows, low, high = np.asarray(actions).reshape(len(actions), -1), *map(np.array, (spec.action.low, spec.action.high))
    slack = 1e-5 * (high - low)
    return int(((rows < low - slack) | (rows > high + slack)).any(1).sum())


def _check_name(name: str) -> None:
    """Raise ValueError for what is no name of a dataset, before Minari makes a folder of it."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)
    except (ValueError, TypeError):
        raise ValueError(f"{name!r} is no dataset's name: write it as reacher/random-v0, with a version.") from None


def _task(environment: Any) -> dict[str, Any]:
    """What a dataset says of its environment, as ``envs.make`` is told; nothing where its arguments are no plain values."""
    known = gymnasium.registry.get(environment.id)
    own = {} if known is None else known.kwargs
    # How it was drawn is nothing of the task, and what the task has by itself nobody gives.
    options = {
        k: v for k, v in (environment.kwargs or {}).items() if k != "render_mode" and (k not in own or own[k] != v)
    }
    task = {"task": environment.id, "options": options}
    try:
        json.dumps(task)
    except TypeError:
        log.warning("The task of %s is not known: it was made with arguments that are no plain values.", environment.id)
        return {}
    limit = environment.max_episode_steps
    return {"task": task | ({} if limit is None else {"time_limit": limit})}


def _action_of(recording: Recording) -> ActionSpec:
    """What actions meant in the dataset that all parts of a recording came from; as they are stored, where there is no such."""
    told = [facts.get("action_space") for facts in recording.made]
    if told[0] is None or any(one != told[0] for one in told):
        return recording.spec.action
    return Spec.from_dict({"observation": [], "action": told[0]}).action


def _told(description: Any) -> list[dict[str, Any]]:
    """How the parts of a recording were made, where ``to_minari`` wrote the description; of one, nothing, where it did not."""
    try:
        made = json.loads(description or "")
    except (TypeError, ValueError):
        return [{}]
    return made if isinstance(made, list) and made and all(isinstance(facts, dict) for facts in made) else [{}]


def _package() -> Any:
    try:
        import minari
    except ImportError as error:
        raise ImportError(
            "Minari's datasets need the package minari: in the project's folder, pip install --editable '.[minari]'."
        ) from error
    return minari


def _steps(episode: Any, spec: Spec) -> Steps:
    """An episode of Minari, T actions between T + 1 observations, as steps [T + 1]."""
    observation = spec.observation_arrays(episode.observations)
    count = len(episode.rewards) + 1
    first, last = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    first[0] = last[-1] = True
    reward = torch.cat([torch.zeros(1), torch.as_tensor(np.asarray(episode.rewards), dtype=torch.float32)])
    action = spec.action.from_environment(np.asarray(episode.actions))
    action = torch.cat([action, torch.zeros(1, spec.action.dim)])
    return Steps(observation, reward, first, last, last & bool(episode.terminations[-1]), action)


def _buffer(steps: Steps, spec: Spec) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    terminal, count = bool(steps.is_terminal[-1]), len(steps.reward) - 1
    ends = np.zeros(count, np.bool_)
    ends[-1] = True
    return EpisodeBuffer(
        observations={name: _seen(steps.observation[name], entry) for name, entry in spec.observation.items()},  # type: ignore[arg-type]
        actions=spec.action.to_environment(steps.action[:-1]),  # type: ignore[arg-type]
        rewards=steps.reward[1:].numpy(),  # type: ignore[arg-type]
        terminations=ends & terminal,  # type: ignore[arg-type]
        truncations=ends & (not terminal),  # type: ignore[arg-type]
        infos={},
    )


def _seen(values: torch.Tensor, entry: Entry) -> np.ndarray:
    """What an entry's space holds: categories as their numbers."""
    if not entry.categories:
        return values.numpy()
    parts = np.split(values.numpy(), np.cumsum(entry.categories)[:-1], axis=1)
    return np.stack([part.argmax(1) for part in parts], axis=1) + np.array(entry.start)


def _batches(buffers: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(buffers, AT_ONCE)):
        yield batch
