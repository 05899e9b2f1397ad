"""What the representation is worth to somebody else's agent: Stable-Baselines3's PPO on what it may be given of a task.

    python benchmarks/plugged.py                       # all of it; goes on where it was stopped
    python benchmarks/plugged.py --only pendulum       # one task

PPO learns, with the same numbers for a task throughout, but for the lower rate of its CNN:

    random     not at all: random actions
    state      on the task's own observations, nothing hidden
    seen       on what the model sees, as it is (pictures: by Stable-Baselines3's own CNN)
    stacked    on the last three of those, where they are vectors
    pictures   on the task's pictures by that CNN, where the model sees vectors
    encoder    on the model's encoder, frozen
    belief     on the model's belief, not drawn
    dream      inside the model: imagined steps alone, and evaluated in the task, on drawn beliefs

The model (`dreamerv3`, size 1m, by scripts/train.py, one for each task) is trained where a record that needs it is missing: on
vectors from which the velocities are hidden, of which `seen`, `encoder` and `belief` are given one at a time, so that they stay
hidden; or on pictures. A CNN and the encoder, which remember nothing, are given the last three, of which velocities can be told.

Returns are compared at equal environment steps, those of the model's own training included. A dream costs no others. Policies are
asked for their most probable actions and for drawn ones, and the better counts. Three seeds each. All of it takes some two hours
and a half of two cores, of which the models take 66 minutes.

The records are results/plugged/<task>-<kind>-<seed>.json, the tables results/plugged.md. A record that was made with another
model than the one that is there, or with other numbers, is made anew. Stopped by Ctrl-C or SIGTERM, a model's training saves.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugged_runs import ROOT, learn, model_told, train_model
from plugged_tasks import EPISODES, KINDS, OF_THE_MODEL, TASKS, Task

from envs import opengl
from worldmodel.snapshots import write_file

RESULTS = ROOT / "benchmarks" / "results"
ROWS = {
    "random": "random actions",
    "state": "the whole state, velocities included",
    "seen": "what the model sees, without velocities",
    "stacked": "the last 3 of those",
    "pictures": "the last 3 pictures, by its own CNN",
    "encoder": "our encoder, frozen, of the last 3",
    "belief": "our belief",
    "dream": "our dream alone",
}


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


def of_today(task: Task, record: dict[str, Any]) -> bool:
    """Whether a record was made with the numbers that the task has now."""
    return record["told"] == json.loads(json.dumps(task.told(record["kind"])))


def missing(name: str, kinds: Sequence[str], model: dict[str, Any] | None) -> list[tuple[int, str]]:
    """Seeds and kinds of which there is no record, or one made with another model or other numbers.

    Args:
        model: the one that is here; None: those of the records are as good, as long as they are one.
    """
    task, absent, digests = TASKS[name], [], set()
    wanted = [(seed, kind) for kind in task.kinds if kind in kinds for seed in range(task.seeds_of(kind))]
    # What needs the model comes first, so that few days end with a model and without all that is of it.
    wanted.sort(key=lambda one: (one[1] not in OF_THE_MODEL, one))
    for seed, kind in wanted:
        record = read_record(name, kind, seed)
        if record is None or not of_today(task, record):
            absent.append((seed, kind))
        elif kind in OF_THE_MODEL:
            digests.add(record["model"]["digest"])
            if model is not None and record["model"]["digest"] != model["digest"]:
                absent.append((seed, kind))
    if model is None and len(digests) > 1:
        return [(seed, kind) for seed, kind in wanted if kind in OF_THE_MODEL or (seed, kind) in absent]
    return absent


def measure(name: str, kinds: Sequence[str], models: Path) -> None:
    """Make the records of a task that are missing, and the model first where they need one."""
    task = TASKS[name]
    logdir = task.folder(models)
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


def at(task: Task, record: dict[str, Any], steps: int) -> float | None:
    """The return after so many environment steps, of the task's if the agent had learned by then."""
    if record["kind"] in ("dream", "random"):
        there = steps == (task.model_steps if record["kind"] == "dream" else task.marks[0])
        return record["curve"][-1]["return"] if there else None
    if record["model"] and steps == task.model_steps:
        return None  # of a policy that has learned nothing yet
    return {point["env_steps"]: point["return"] for point in record["curve"]}.get(steps)


def spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.mean(values):.0f}" + (f" ± {statistics.stdev(values):.0f}" if len(values) > 1 else "")


def label(task: Task, kind: str) -> str:
    if kind == "seen" and task.pixels:
        return ROWS["pictures"]
    return ROWS[kind]


def table(name: str, task: Task) -> list[str]:
    """One task's rows; [] without a record."""
    rows: list[list[str]] = []
    models = {}
    for kind in task.kinds:
        there = [read_record(name, kind, seed) for seed in range(task.seeds_of(kind))]
        records = [record for record in there if record is not None and of_today(task, record)]
        if not records:
            continue
        models |= {record["model"]["digest"]: record["model"] for record in records if record["model"]}
        found = [[value for record in records if (value := at(task, record, mark)) is not None] for mark in task.marks]
        minutes = f"{statistics.mean(record['seconds'] for record in records) / 60:.1f}"
        if any(record.get("cores") == 1 for record in records):
            minutes += " on one core"
        decisions = f"{records[0]['curve'][-1]['decisions']:,}" if kind != "random" else ""
        rows.append([label(task, kind), *map(spread, found), decisions, str(len(records)), minutes])
    for model in models.values():
        own = [f"{model['return']:.0f}" if mark == model["env_steps"] else "–" for mark in task.marks]
        rows.append([f"({model['recipe']} itself)", *own, "", "1", f"{model['wall_seconds'] / 60:.1f}"])
    if not rows:
        return []
    sees = "pictures" if task.pixels else "no velocities"
    heads = ["PPO on", *(f"{mark:,} steps" for mark in task.marks), "its decisions", "seeds", "minutes each"]
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"## {task.task}: the model sees {sees}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def summarise() -> None:
    """The tables of all records that are there."""
    lines = [
        "# The representation in somebody else's agent",
        "",
        f"Made by `python {Path(__file__).resolve().relative_to(ROOT)}`: Stable-Baselines3's PPO, with the same numbers in every",
        "row of a task (its CNN alone at a lower rate), on what it may be given of it; tasks, numbers and rows are in",
        "`benchmarks/plugged_tasks.py`. Columns are environment steps, and those of the model's own training, the",
        "first column, are counted for encoder, belief and dream: PPO on encoder and belief begins there, and a dream, whose",
        "decisions are imagined, takes no further ones. Rates fall to zero over each row's own decisions. Returns are means of",
        f"{EPISODES} evaluation episodes, of most probable or of drawn actions, whichever are better, ± the deviation of PPO's",
        "seeds, of one model each; the model's own one, in brackets, is of 10 others. Its training takes minutes as well.",
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
    # So that SIGTERM, as Ctrl-C, has a model's training save before it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    opengl.choose_backend()  # at the start, and not only at the first task of pictures
    for name in TASKS:
        if not arguments.collect and arguments.only in name:
            measure(name, arguments.kinds, models)
    summarise()


if __name__ == "__main__":
    main()
