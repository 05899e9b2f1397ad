"""Two processes with half a batch each find what one process finds in the whole, gradients included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_every_objective import STEPS, padded
from two_ranks import DRAW_FOR_ALL, EVERYWHERE, found, key


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


@pytest.mark.parametrize("place", [key(*place) for place in EVERYWHERE])
def test_value_gradients_and_writes_are_those_of_the_joined_batch(results, place):
    alone, *both = results
    (loss, gradients, written), *ranks = (result[place] for result in (alone, *(of_rank for of_rank, _ in both)))
    for value, _, buffers in ranks:
        torch.testing.assert_close(value, loss, rtol=1e-4, atol=1e-5)
        for name, buffer in buffers.items():
            torch.testing.assert_close(buffer, written[name], rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():  # the mean over ranks is what DistributedDataParallel takes
        mean = (ranks[0][1][name] + ranks[1][1][name]) / 2
        torch.testing.assert_close(mean, gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", DRAW_FOR_ALL)
def test_what_is_drawn_for_all_rows_is_the_same_on_all_ranks(results, name):
    (losses, written), (other_losses, other_written) = (apart[name] for _, apart in results[1:])
    torch.testing.assert_close(losses, other_losses, rtol=1e-4, atol=1e-5)
    for buffer, value in written.items():
        torch.testing.assert_close(other_written[buffer], value, rtol=1e-4, atol=1e-5)
