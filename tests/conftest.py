"""What holds for every test."""

import multiprocessing

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny products are fastest on one thread, and a test draws the same numbers whichever ran before it."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.fixture(autouse=True)
def _start_method():
    """Processes are started as Python does it: torchrl, where it was imported, has made it spawn for everybody."""
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]
