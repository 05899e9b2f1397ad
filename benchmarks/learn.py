"""Learning on a CPU, size 1m: the runs behind the README's results, one after the other, going on where they stopped.

    make learn                                    # or: python benchmarks/learn.py --only pendulum
    python benchmarks/learn.py --set dreamer

Each finished run leaves ``results/learning/<run>.json``: its result, its curve and the command that made it. Together
they make ``results/learning.md`` and a figure of each set, beside the published points.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from runs import RESULTS, ROOT, RUNS_FOLDER, SETS, TITLES, Run

HEADER = """# Learning on a CPU

Made by `python benchmarks/learn.py` on two cores; `make learn` is the first set, `--set` names another. The returns are means
over 10 evaluation episodes with their standard error; "training" is the mean of the training's own episodes over the last tenth
of the steps, in which the policy explores, as the published Dreamer curves have it. The curves, the exact commands and the
versions are in `learning/`. The machine did other work at times: the wall minutes are upper bounds.
"""


def summarise() -> None:
    """Write the table and the figures of all records that are there."""
    text = HEADER
    for name, runs in SETS.items():
        records = {run.name: (run, json.loads(run.record.read_text())) for run in runs if run.record.is_file()}
        if not records:
            continue
        figure = "learning.png" if name == "tdmpc2" else f"learning-{name}.png"
        draw(list(records.values()), RESULTS / figure)
        text += f"\n## {TITLES[name]}\n\n![curves]({figure})\n\n" + table(list(records.values()))
    (RESULTS / "learning.md").write_text(text)


def table(records: Sequence[tuple[Run, dict]]) -> str:
    lines = [
        "| recipe | task | seed | environment steps | return | training | published | wall minutes |",
        "|---" * 8 + "|",
    ]
    for run, record in records:
        published = ", ".join(
            f"{mean:.0f} at {steps // 1000} k (worst {worst:.0f})" for steps, mean, worst in run.published
        )
        value = f"{record['return']:.1f} ± {record['return_standard_error']:.1f}{'†' * ('fault' in record)}"
        task = f"{run.task}{run.variant and f' ({run.variant})'}"
        minutes = record["wall_seconds"] / 60
        late = [value for step, value in record.get("training", ()) if step > 0.9 * record["env_steps"]]
        training = f"{sum(late) / len(late):.0f}" if late else ""
        cells = [run.recipe, task, run.seed, f"{record['env_steps']:,}", value, training, published, f"{minutes:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    faults = dict.fromkeys(record["fault"] for _, record in records if "fault" in record)
    return "\n".join([*lines, *(f"\n† To be made anew: {fault}." for fault in faults)]) + "\n"


def draw(records: Sequence[tuple[Run, dict]], path: Path) -> None:
    """A panel for each task: the curves of its runs, and the published points."""
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys((run.task, run.pixels) for run, _ in records))
    columns = max(-(-len(tasks) // 2), 1)
    figure, axes = plt.subplots(2, columns, figsize=(3.2 * columns, 5.2), squeeze=False)
    for axis, (task, pixels) in zip(axes.flat, tasks, strict=False):
        here = [(run, record) for run, record in records if (run.task, run.pixels) == (task, pixels)]
        for run, record in here:
            label = f"{run.recipe}{run.variant and ', ' + run.variant}, seed {run.seed}"
            (line,) = axis.plot(*zip(*record["curve"], strict=True), marker=".", label=label)
            if record.get("training"):
                axis.plot(*zip(*record["training"], strict=True), ":", linewidth=0.8, color=line.get_color())
        published = next((run.published for run, _ in here if run.published), ())
        for steps, mean, worst in published:
            label = "published, worst seed" if steps == published[0][0] else None
            axis.errorbar([steps], [mean], yerr=[[mean - worst], [0]], fmt="k*", label=label)
        axis.set_title(f"{task}{' from pixels' * pixels}", fontsize=9)
        axis.set_xlabel("environment steps", fontsize=8)
        axis.legend(fontsize=6)
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=tuple(SETS), default="tdmpc2", help="which runs")
    parser.add_argument("--only", default="", help="run only those whose name contains this, in any case")
    parser.add_argument("--anew", action="store_true", help="those as well of which there is a record")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the table and the figures alone")
    parser.add_argument("--runs", type=Path, default=RUNS_FOLDER, help="the folder of the runs, which go on from there")
    arguments = parser.parse_args()
    for run in SETS[arguments.set]:
        if arguments.collect or arguments.only.lower() not in run.name.lower():
            continue
        if run.done() and not arguments.anew:
            print(
                f"{run.name} has a record of its {run.steps:,} steps, {run.record.relative_to(ROOT)}: --anew makes it anew."
            )
            continue
        command = run.command(arguments.runs)
        print(shlex.join(command), flush=True)
        code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        if code:
            raise SystemExit(code)
        run.keep(arguments.runs)
        summarise()
    summarise()


if __name__ == "__main__":
    main()
