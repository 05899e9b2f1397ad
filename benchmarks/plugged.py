"""What the representation is worth to somebody else's agent: Stable-Baselines3's PPO on what it may be given of a task.

    python benchmarks/plugged.py                       # all of it; goes on where it was stopped
    python benchmarks/plugged.py --only pendulum       # one task

PPO learns, with the same numbers for a task throughout:

    state      on the task's own observations, nothing hidden
    seen       on what the model sees, as it is (pictures: by Stable-Baselines3's own CNN)
    pictures   on the task's pictures by that CNN, where the model sees vectors
    encoder    on the model's encoder, frozen
    belief     on the model's belief, not drawn
    dream      inside the model: imagined steps alone, and evaluated in the task

The model (`dreamerv3`, size 1m, by scripts/train.py, one for each task) is trained where a record that needs it is missing: on
observations from which the velocities are hidden, where everybody but `state` is given one observation at a time, so that they
stay hidden; or on pictures, of which CNN and encoder are given the last three, as they are or as what the encoder makes of each.

Returns are compared at equal environment steps, those of the model's own training included. A dream costs no others. Three
seeds each, and one of the CNN. By estimate, from the speed of single parts, two and a half to three hours of two cores: 70
minutes for the models, an hour and a quarter for PPO on vectors and features, 20 minutes for its CNN.

The records are results/plugged/<task>-<kind>-<seed>.json, the tables results/plugged.md. A record that was made with another
model than the one that is there, or with other numbers, is made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugged_runs import EPISODES, KINDS, OF_THE_MODEL, ROOT, TASKS, Task, learn, model_told, train_model

from worldmodel.snapshots import write_file

RESULTS = ROOT / "benchmarks" / "results"


def record_of(name: str, kind: str, seed: int) -> Path:
    return RESULTS / "plugged" / f"{name}-{kind}-{seed}.json"


def read_record(name: str, kind: str, seed: int) -> dict[str, Any] | None:
    """None where there is none, or half of one."""
    path = record_of(name, kind, seed)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        print(f"{path} cannot be read, and is made anew.", flush=True)
        return None


def missing(name: str, kinds: Sequence[str], model: dict[str, Any] | None) -> list[tuple[int, str]]:
    """Seeds and kinds of which there is no record, or one made with another model or other numbers.

    Args:
        model: the one that is here; None: those of the records are as good, as long as they are one.
    """
    task, absent, digests = TASKS[name], [], set()
    wanted = [(seed, kind) for kind in task.kinds if kind in kinds for seed in range(task.seeds_of(kind))]
    for seed, kind in sorted(wanted):
        record = read_record(name, kind, seed)
        if record is None or record["told"] != json.loads(json.dumps(task.told(kind))):
            absent.append((seed, kind))
        elif kind in OF_THE_MODEL:
            digests.add(record["model"]["digest"])
            if model is not None and record["model"]["digest"] != model["digest"]:
                absent.append((seed, kind))
    if model is None and len(digests) > 1:
        return [(seed, kind) for seed, kind in sorted(wanted) if kind in OF_THE_MODEL or (seed, kind) in absent]
    return absent


def measure(name: str, kinds: Sequence[str], models: Path) -> None:
    """Make the records of a task that are missing, and the model first where they need one."""
    task, logdir = TASKS[name], models / name
    model = model_told(logdir)
    absent = missing(name, kinds, model)
    if model is None and any(kind in OF_THE_MODEL for _, kind in absent):
        train_model(task, logdir)
        absent = missing(name, kinds, model_told(logdir))
    for seed, kind in absent:
        result = learn(task, kind, seed, logdir)
        path = record_of(name, kind, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, (json.dumps(result, indent=1) + "\n").encode())
        print(
            f"{name} {kind} seed {seed}: {result['curve'][-1]['return']:.1f} in {result['seconds']:.0f} s", flush=True
        )
        summarise()


def at(record: dict[str, Any], steps: int) -> float | None:
    """The return after so many environment steps; a dream, which goes on without any, has its last one from the model's on."""
    if record["kind"] == "dream":
        return record["curve"][-1]["return"] if steps >= record["curve"][-1]["env_steps"] else None
    return {point["env_steps"]: point["return"] for point in record["curve"]}.get(steps)


def spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.mean(values):.0f}" + (f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else "")


def table(name: str, task: Task) -> list[str]:
    """One task's rows; [] without a record."""
    rows: list[list[str]] = []
    models = {}
    for kind in task.kinds:
        records = [record for seed in range(task.seeds_of(kind)) if (record := read_record(name, kind, seed))]
        if not records:
            continue
        models |= {record["model"]["digest"]: record["model"] for record in records if record["model"]}
        found = [[value for record in records if (value := at(record, mark)) is not None] for mark in task.marks]
        imagined = f"{records[0]['curve'][-1]['decisions']:,}" if kind == "dream" else ""
        seconds = statistics.mean(record["seconds"] for record in records)
        rows.append([kind, *map(spread, found), imagined, str(len(records)), f"{seconds / 60:.1f}"])
    for model in models.values():
        own = [f"{model['return']:.0f}" if mark == model["env_steps"] else "–" for mark in task.marks]
        rows.append([f"({model['recipe']} itself)", *own, "", "1", f"{model['wall_seconds'] / 60:.1f}"])
    if not rows:
        return []
    sees = "pictures" if task.pixels else "no velocities"
    heads = ["PPO on", *(f"{mark:,} steps" for mark in task.marks), "imagined decisions", "seeds", "minutes each"]
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"## {task.task}: the model sees {sees}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def summarise() -> None:
    """The tables of all records that are there."""
    lines = [
        "# The representation in somebody else's agent",
        "",
        f"Made by `python {Path(__file__).relative_to(ROOT)}`: what each row means stands at its head. Returns are means of",
        f"{EPISODES} evaluation episodes, over PPO's seeds ± their deviation, of one model each, at equal environment steps.",
        "Those of the model's own training, the first column, are counted for encoder, belief and dream alike: there encoder",
        "and belief have a policy that has learned nothing yet. A dream takes no steps of the task but the model's, and its",
        "return, in every column, is the last one.",
        "",
    ]
    for name, task in TASKS.items():
        lines += table(name, task)
    write_file(RESULTS / "plugged.md", "\n".join(lines).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the tasks whose name contains this")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="what PPO learns on")
    parser.add_argument("--models", type=Path, default=ROOT / "runs" / "plugged", help="where the models are trained")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the tables alone")
    arguments = parser.parse_args()
    models = arguments.models.absolute()
    os.chdir(ROOT)
    for name in TASKS:
        if not arguments.collect and arguments.only in name:
            measure(name, arguments.kinds, models)
    summarise()


if __name__ == "__main__":
    main()
