"""Folders that are there whole or not at all: written beside, flushed, renamed, each file with its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

CHECKSUMS = "checksums.json"


class DamagedError(ValueError):
    """A stored file is missing, or is not what was written."""


def check_replaceable(folder: Path, names: Collection[str]) -> None:
    """Raise ValueError unless ``folder`` is absent, or holds nothing but files of these names, as ``writing`` left them."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the name of a folder.")
    others = sorted(path.name for path in folder.glob("*") if path.name not in {*names, CHECKSUMS})
    if others:
        raise ValueError(
            f"{folder} holds {others[0]!r}, which would be lost, as what is there is replaced: give a folder of its own."
        )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """``with writing(folder) as beside:`` fills ``beside``, which becomes ``folder`` if nothing raised."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        sums = {path.name: checksum(path) for path in sorted(beside.iterdir())}
        write_json(beside / CHECKSUMS, sums)
        for path in beside.iterdir():
            _flush(path)
        _flush(beside)
        replaced = unused(folder.parent, folder.name)
        if folder.exists():  # put aside by one rename: removing it takes long enough to be interrupted in between
            folder.rename(replaced)
        beside.rename(folder)
        _flush(folder.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_file(path: Path, data: bytes) -> None:
    """One file, written beside, flushed and renamed."""
    beside = unused(path.parent, path.name)
    beside.write_bytes(data)
    settle(beside, path)


def unused(folder: Path, name: str) -> Path:
    """A hidden file for what is to become ``name``, of a name that no process takes twice, in another container neither."""
    return folder / f".{uuid.uuid4().hex}.{name}"


def settle(beside: Path, path: Path) -> None:
    """Flush the file ``beside`` and give it its name."""
    _flush(beside)
    beside.rename(path)
    _flush(path.parent)


def settle_behind(beside: Path, path_of: Callable[[int], Path], number: int) -> int:
    """Flush the file ``beside`` and give it the first free name of a series, from ``number`` on; returns the one after it.

    Nothing is replaced, whoever else writes there; but for file systems without hard links, where only one may write at a time.
    """
    _flush(beside)
    while True:
        try:
            os.link(beside, path_of(number))
        except FileExistsError:
            number += 1
        except OSError:
            if not path_of(number).exists():
                beside.rename(path_of(number))
                break
            number += 1
        else:
            beside.unlink()
            break
    _flush(beside.parent)
    return number + 1


def verify(folder: Path) -> None:
    """Raise DamagedError unless every file of the folder is what was written."""
    try:
        sums = json.loads((folder / CHECKSUMS).read_text())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{folder} has no readable {CHECKSUMS}: {error}") from None
    for name, expected in sums.items():
        if not (folder / name).is_file():
            raise DamagedError(f"{folder / name} is missing.")
        if checksum(folder / name) != expected:
            raise DamagedError(f"{folder / name} is damaged: its checksum is not the one that was written.")


def newest(directory: Path) -> tuple[Path | None, list[str]]:
    """The last undamaged folder of ``directory`` by name, and a sentence for each damaged one passed over."""
    damaged = []
    folders = [path for path in directory.glob("*") if path.is_dir() and not path.name.startswith(".")]
    for folder in sorted(folders, reverse=True):
        try:
            verify(folder)
        except DamagedError as error:
            damaged.append(str(error))
        else:
            return folder, damaged
    return None, damaged


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def write_tensors(path: Path, tensors: dict[str, Tensor], told: dict[str, str] | None = None) -> None:
    """safetensors, with words beside them if there are any; tensors may lie anywhere and share memory."""
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    safetensors.torch.save_file(own, path, told)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; DamagedError where it is none.

    They lie in the file's memory map: what is never looked at is never read.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from None


def read_told(path: Path) -> dict[str, str]:
    """The words beside the tensors of a safetensors file, of which nothing else is read; DamagedError where it is none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
