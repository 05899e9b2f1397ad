"""Parts that others wrote, imported once a name is asked for that is not known yet."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

GROUP = "worldmodel.parts"
"""Of the entry points by which an installed package says which of its modules register parts."""
VARIABLE = "WORLDMODEL_PLUGINS"
"""Modules, or files ending in .py, that register parts; several with ":" between them, as in PATH."""


@functools.cache
def import_plugins() -> None:
    """Import the modules of installed packages (entry points) and those that the environment variable names, once.

    Raises:
        ValueError: a module or file that the variable names is not there.
    """
    for entry_point in importlib.metadata.entry_points(group=GROUP):
        entry_point.load()
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        if name.endswith(".py"):
            _import_file(Path(name))
        else:
            _import_module(name)


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there, and something that it needs is not
        raise ValueError(
            f"{VARIABLE} names the module {name!r}, which is not installed: install it, or give a file, its_name.py."
        ) from None


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{VARIABLE} names {path}, which is no file: give its path from here, or the whole one.")
    present = getattr(sys.modules.get(path.stem), "__file__", None)
    if present is not None and Path(present).resolve() == path.resolve():
        return  # imported by the program itself
    description = importlib.util.spec_from_file_location(path.stem, path)
    assert description is not None and description.loader is not None
    module = importlib.util.module_from_spec(description)
    sys.modules[path.stem] = module  # dataclasses look their own module up
    description.loader.exec_module(module)
