"""A run's configuration on disk, in words that a person reads and edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from worldmodel.registry import config_from_dict
from worldmodel.snapshots import write_file

CONFIG = "config.yaml"


def write_config(logdir: Path, config: dict[str, Any]) -> None:
    write_file(logdir / CONFIG, yaml.safe_dump(config, sort_keys=False).encode())


def read_config(logdir: Path, annotation: type) -> Any:
    """The configuration of a run, as ``annotation``.

    Raises:
        FileNotFoundError: this is no run's folder.
        ValueError: the file is not what a run wrote.
    """
    path = logdir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{logdir} has no {CONFIG}: give the folder of a run (its --logdir).")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not the YAML that a run wrote: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no configuration: the run cannot go on from it.")
    values.pop("resolved", None)
    return config_from_dict(annotation, values)
