"""Where and how arithmetic runs: device, precision, compilation."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable)


@dataclass(frozen=True)
class ExecutionConfig:
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, …: auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products; all else is float32. auto: bfloat16 where the device is fast at it. On a GPU those that stay float32
    beside bfloat16 are TF32; asked for by name, float32 is whole."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """torch.compile of the update and of planning; on a GPU with CUDA graphs. auto: wherever it works here."""


class Execution:
    """A resolved ``ExecutionConfig``.

    Raises:
        ValueError: a device that this machine lacks, or compilation without a C++ compiler.
    """

    def __init__(self, config: ExecutionConfig) -> None:
        self.device = named_device(config.device)
        self.dtype = _dtype(config.precision, self.device)
        self._compiled: dict[Callable, Callable] = {}
        if config.compile not in ("auto", "yes", "no"):
            raise ValueError(f"compile={config.compile!r} is not supported: give 'auto', 'yes' or 'no'.")
        self.compiles = config.compile != "no"
        self._obstacle = obstacle_to_compiling(self.device, self.dtype) if self.compiles else None
        if self._obstacle and config.compile == "yes":
            raise ValueError(f"compile='yes' cannot be had here: {self._obstacle}. Mend that, or give compile='no'.")
        self.compiles = self.compiles and self._obstacle is None
        if self.device.type == "cuda":
            if self.device.index is not None:
                torch.cuda.set_device(self.device)  # CUDA graphs and their random numbers are of the current one
            torch.set_float32_matmul_precision("highest" if config.precision == "float32" else "high")
        else:
            keep_freed_memory()

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Matrix products in this precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def compile(self, function: Function) -> Function:
        """``function`` compiled as one graph (captured as CUDA graphs on a GPU), once; or as it is."""
        if not self.compiles or function in self._compiled.values():
            return function
        if function not in self._compiled:
            # A graph is captured for each shape in any case: one of every size would be slower, and captured as often.
            mode, dynamic = ("reduce-overhead", False) if self.device.type == "cuda" else ("default", None)
            self._compiled[function] = torch.compile(function, fullgraph=True, mode=mode, dynamic=dynamic)
        return cast(Function, self._compiled[function])

    @property
    def captures(self) -> bool:
        """Whether compiled functions run as CUDA graphs."""
        return self.compiles and self.device.type == "cuda"

    def mark_step(self) -> None:
        """Say that outputs of earlier calls of compiled functions are no longer needed (CUDA graphs reuse their memory)."""
        if self.captures:
            torch.compiler.cudagraph_mark_step_begin()

    def describe(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"cpu, {_counted(torch.get_num_threads(), 'thread')}"
        )
        compiled = f", not compiled: {self._obstacle}" if self._obstacle else ", compiled" if self.compiles else ""
        return f"{name}, {str(self.dtype).removeprefix('torch.')}{compiled}"


def named_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda or cuda:N.

    Raises:
        ValueError: no such device, or none on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"There is no device {name!r}: give auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"Device {name!r} is not supported: give auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(
            f"Device {name!r} was asked for, but PyTorch sees {_counted(count, 'GPU')} here: give auto or cpu."
        )
    return device


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"Precision {precision!r} is not supported: give auto, float32 or bfloat16.")
    if precision != "auto":
        return getattr(torch, precision)
    fast = gpu_multiplies_bfloat16(device) if device.type == "cuda" else cpu_is_fast_at_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def obstacle_to_compiling(device: torch.device, dtype: torch.dtype) -> str | None:
    """What torch.compile lacks on that device, or None."""
    on_gpu = device.type == "cuda"
    # Triton builds its launcher in C.
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang") if on_gpu else ("g++", "clang++")
    if not any(map(shutil.which, compilers)):
        return f"it needs a {'C' if on_gpu else 'C++'} compiler (apt install {'gcc' if on_gpu else 'g++'})"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "it needs Python's headers (apt install python3-dev)"
    if on_gpu and importlib.util.find_spec("triton") is None:
        return "it needs triton (pip install triton)"
    if on_gpu and torch.cuda.get_device_capability(device) < (7, 0):
        return "it needs a GPU of compute capability 7.0 or more"
    if on_gpu and dtype is torch.bfloat16 and not gpu_multiplies_bfloat16(device):
        return "in bfloat16 it needs a GPU of compute capability 8.0 or more (or precision float32)"
    return None


def gpu_multiplies_bfloat16(device: torch.device) -> bool:
    """Whether this GPU does so in hardware: earlier ones than Ampere only emulate it."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors instead of handing it back to the kernel after each operation.

    Otherwise every large temporary tensor is mapped, and its pages zeroed, anew: a fifth of an update of size 1m. For
    the whole process; does nothing where the C library is another.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_max, 0)  # M_MMAP_THRESHOLD takes no more than 32 MB, and images of a batch are more
        mallopt(trim_threshold, (1 << 31) - 1)


def cpu_is_fast_at_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (AMX or AVX512-BF16); others are slower than in float32."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
