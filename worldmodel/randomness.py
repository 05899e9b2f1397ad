"""Random numbers beside a training, which go on afterwards as if none had been drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """What is drawn on the CPU and on ``device`` begins at ``seed``; afterwards both go on where they were.

    ``torch.manual_seed`` seeds every GPU, those as well that ``torch.random.fork_rng`` does not give back.
    """
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
