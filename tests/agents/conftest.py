import sys
from pathlib import Path

import pytest
import torch

# Where the tests below find tests/agents/tiny.py.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny products are fastest on one thread, and the random state of a test is its own."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
