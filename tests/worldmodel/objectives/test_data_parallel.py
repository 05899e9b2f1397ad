"""Two processes with half a batch each find what one process finds in the whole, gradients included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from everyone import PLACES
from test_every_objective import STEPS, padded
from two_ranks import found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of one process, and of each of two."""
    folder, script = tmp_path_factory.mktemp("ranks"), Path(__file__).with_name("two_ranks.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, script, str(rank), folder], env=environment) for rank in range(2)]
    torch.set_num_threads(1)
    alone = found(padded(STEPS, 0.0, 0.0))
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return alone, *(torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0]}-{place[1]}")
def test_value_gradients_and_writes_are_those_of_the_joined_batch(results, place):
    (loss, gradients, written), *ranks = (result[place] for result in results)
    for value, _, buffers in ranks:
        torch.testing.assert_close(value, loss, rtol=1e-4, atol=1e-5)
        for name, buffer in buffers.items():
            torch.testing.assert_close(buffer, written[name], rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():  # the mean over ranks is what DistributedDataParallel takes
        mean = (ranks[0][1][name] + ranks[1][1][name]) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
