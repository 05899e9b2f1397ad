"""One of two processes that learn from halves of a batch: python two_ranks.py RANK FOLDER; leaves FOLDER/RANK.pt."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from everyone import PLACES, Place, drawn_alike, gradients, with_history  # noqa: E402
from test_every_objective import STEPS, padded  # noqa: E402

# Whose negatives are told apart by the number of their episode, which is another on each rank.
SCOPED = [
    (name, False, {"negatives": negatives} | options)
    for negatives in ("episode", "time")
    for name, options in (
        ("cpc", {}),
        ("ntxent", {"between": "steps"}),
        ("curl", {"between": "steps"}),
        ("spatial-cpc", {}),
        ("moco", {"between": "steps"}),
    )
] + [("infonce", True, {"negatives": negatives}) for negatives in ("episode", "time")]
WITHIN = [("vicreg", False, {"between": "steps", "within": "episode"})]
EVERYWHERE = [(name, with_dynamics, {}) for name, with_dynamics in PLACES] + SCOPED + WITHIN
# What they draw is for all rows: slices, and first centroids.
DRAW_FOR_ALL = ("sigreg", "deepcluster")


def key(name: str, with_dynamics: bool, options: dict) -> str:
    return " ".join([name, str(with_dynamics), *map(str, options.values())])


def found(steps) -> dict:
    """Loss, gradients and what was written, of every objective in every place."""
    results = {}
    for name, with_dynamics, options in EVERYWHERE:
        place = Place(name, with_dynamics, **options)
        with drawn_alike():
            with_history(place, steps)
        written = {key: value.clone() for key, value in place.objective.named_buffers()}
        with drawn_alike():
            result = place.loss(steps).detach(), gradients(place, steps), written
        results[key(name, with_dynamics, options)] = result
    return results


def drawn_apart(steps, seed: int) -> dict:
    """Losses, and what was written, of objectives that draw for all rows, in random states that differ between ranks."""
    results = {}
    for name in DRAW_FOR_ALL:
        place = Place(name)
        torch.manual_seed(seed)
        losses = []
        for _ in range(4):
            outcome = place(steps)
            place.after_update(outcome.pending)
            losses.append(sum(outcome.losses.values()).detach())
        results[name] = torch.stack(losses), {key: value.clone() for key, value in place.objective.named_buffers()}
    return results


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    whole = padded(STEPS, 0.0, 0.0)
    half = whole.select(slice(6 * rank, 6 * rank + 6))
    torch.save((found(half), drawn_apart(half, seed=rank)), folder / f"{rank}.pt")
    dist.destroy_process_group()
