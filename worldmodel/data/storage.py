"""Room for the replay: how many bytes it takes, whether they are there, and the tensors themselves."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor

from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps

logger = logging.getLogger("worldmodel")

# A row's age in its episode, kept beside the tensors.
BOOKKEEPING_BYTES = 4


def entries(spec: Spec, extras: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
    """Every array of a stored step by its flat name: "observation/state", "reward", ..., "extras/latent"."""
    flag = Entry((), "bool")
    return {
        **{f"observation/{name}": entry for name, entry in spec.observation.items()},
        "reward": Entry((), "float32"),
        "is_first": flag,
        "is_last": flag,
        "is_terminal": flag,
        "action": Entry((spec.action.dim,), "float32"),
        **{f"extras/{name}": entry for name, entry in (extras or {}).items()},
    }


def unflatten(values: Mapping[str, Tensor]) -> Steps:
    """The steps whose tensors have these flat names; other names are passed over."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}

    single = {name: values[name] for name in ("reward", "is_first", "is_last", "is_terminal", "action")}
    return Steps(observation=below("observation/"), **single, extras=below("extras/"))


def bytes_per_step(layout: Mapping[str, Entry]) -> int:
    """Bytes of one stored step."""
    return sum(entry.nbytes for entry in layout.values()) + BOOKKEEPING_BYTES


def allocate(layout: Mapping[str, Entry], rows: int, device: torch.device, directory: Path | None) -> dict[str, Tensor]:
    """Zeroed tensors [rows, *shape] by name: on `device`, or in files of `directory`, whose old content is dropped.

    Says in the log how many bytes that takes. Raises ValueError, with what would fit, where they are not there.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in layout:
            # Unlinked, not truncated: a process that still maps the old file keeps its own.
            _file(directory, name).unlink(missing_ok=True)
    each = bytes_per_step(layout)
    place = f"files in {directory}" if directory is not None else "memory" if device.type == "cpu" else str(device)
    available = _available(device, directory)
    copied = sum(entry.nbytes for name, entry in layout.items() if name.startswith("extras/"))
    latent = f", {readable(copied * rows)} of it latent states, which each checkpoint copies" if copied else ""
    # What may surprise is said to programs as well that show warnings alone.
    level = logging.WARNING if each * rows >= 2**30 else logging.INFO
    logger.log(level, "Replay of %s steps: %s in %s%s.", f"{rows:,}", readable(each * rows), place, latent)
    if available is not None and each * rows > available:
        other = "" if directory is not None else ', or replay_device="disk"'
        raise ValueError(
            f"A replay of {rows:,} steps takes {readable(each * rows)} in {place}, where {readable(available)} are free: "
            f"at most {available // each:,} steps fit. Give a replay_capacity of so many{other}."
        )
    if directory is None:
        return {
            name: torch.zeros((rows, *entry.shape), dtype=entry.torch_dtype, device=device)
            for name, entry in layout.items()
        }
    return {name: _mapped(_file(directory, name), entry, rows) for name, entry in layout.items()}


def readable(count: int) -> str:
    """A number of bytes in words, like "3.2 GiB"."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _file(directory: Path, name: str) -> Path:
    return directory / f"{quote(name, safe='')}.bin"


def _mapped(path: Path, entry: Entry, rows: int) -> Tensor:
    with path.open("wb") as file:
        # Reserved now: a disk that fills up under a mapping kills the process without a word.
        os.posix_fallocate(file.fileno(), 0, max(rows * entry.nbytes, 1))
    count = rows * entry.nbytes // entry.torch_dtype.itemsize
    flat = torch.from_file(str(path), shared=True, size=count, dtype=entry.torch_dtype)
    return flat.view(rows, *entry.shape)


def _available(device: torch.device, directory: Path | None) -> int | None:
    """Free bytes at the place of storage; None where the system does not say."""
    if directory is not None:
        return shutil.disk_usage(directory).free
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_system_memory(), _container_memory()) if limit is not None]
    return min(limits, default=None)


def _system_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _container_memory() -> int | None:
    """What a memory limit of the control group leaves; page cache counts as free, as it is given back on demand."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = int((group / "memory.max").read_text()), int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(limit - used + int(statistics["file"]), 0)
    except (OSError, ValueError, KeyError):
        return None
