"""What holds for every test."""

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
