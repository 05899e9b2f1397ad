"""One of two processes that learn from halves of a batch: python two_ranks.py RANK FOLDER; leaves FOLDER/RANK.pt."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from everyone import PLACES, Place, drawn_alike, gradients, with_history  # noqa: E402
from test_every_objective import STEPS, padded  # noqa: E402


def found(steps) -> dict:
    """Loss, gradients and what was written, of every objective in every place."""
    results = {}
    for name, with_dynamics in PLACES:
        place = Place(name, with_dynamics)
        with drawn_alike():
            with_history(place, steps)
        written = {key: value.clone() for key, value in place.objective.named_buffers()}
        with drawn_alike():
            results[name, with_dynamics] = place.loss(steps).detach(), gradients(place, steps), written
    return results


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    whole = padded(STEPS, 0.0, 0.0)
    torch.save(found(whole.select(slice(6 * rank, 6 * rank + 6))), folder / f"{rank}.pt")
    dist.destroy_process_group()
