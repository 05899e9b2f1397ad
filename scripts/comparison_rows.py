"""What compare_objectives.py has done already: rows.jsonl, a line for each training, and the settings that they share."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import agents
import worldmodel
from envs import distractions
from worldmodel import RepresentationConfig
from worldmodel.registry import config_to_dict

ROWS, SETTINGS = "rows.jsonl", "settings.json"


def made_of(model: RepresentationConfig) -> str:
    """A short digest of all that is configured of a model."""
    return hashlib.sha256(json.dumps(config_to_dict(model), sort_keys=True).encode()).hexdigest()[:12]


def code_of() -> str:
    """A short digest of the code that rows depend on, by which those that other code made are told."""
    digest = hashlib.sha256()
    for package in (worldmodel, agents, distractions):
        file = Path(str(package.__file__))
        for path in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def check_settings(settings: dict[str, Any], folder: Path) -> None:
    """Keep what all rows of a folder share.

    Raises:
        ValueError: its rows were made with other settings.
    """
    settings, path = json.loads(json.dumps(settings)), folder / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text())
        if changed := [name for name in settings if before.get(name) != settings[name]]:
            raise ValueError(
                f"{folder} holds a comparison with another {changed[0]}, {before.get(changed[0])}: give another --out."
            )
    path.write_text(json.dumps(settings, indent=1) + "\n")


def rows_of(folder: Path, made: dict[str, str]) -> list[dict[str, Any]]:
    """The rows that earlier calls left, less those of models that are configured otherwise now.

    Args:
        made: digests of the models, by name (``made_of``).
    """
    if not (folder / ROWS).is_file():
        return []
    rows = {}
    for line in (folder / ROWS).read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut while it was written
            continue
        if row["made"] == made.get(row["objective"], row["made"]):
            rows[row["objective"], row["condition"], row["seed"]] = row
    return list(rows.values())


def append(folder: Path, row: dict[str, Any]) -> None:
    path = folder / ROWS
    cut = path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * bool(cut) + json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
