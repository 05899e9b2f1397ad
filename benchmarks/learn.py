"""Learning on a CPU, size 1m: the runs behind the README's results, one after the other, going on where they stopped.

    make learn                      # or: python benchmarks/learn.py --only pendulum

Each finished run leaves ``results/learning/<run>.json``: its result, its curve and the command that made it. Together
they make ``results/learning.md`` and ``results/learning.png``, beside the published points.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS_FOLDER = Path("runs/learn")
RESULTS = ROOT / "benchmarks" / "results"
PLANNER = ("--size", "1m", "--behaviour.planner.samples", "256", "--behaviour.planner.iterations", "4")


@dataclass(frozen=True)
class Run:
    task: str
    steps: int
    seed: int = 0
    solved: float | None = None
    """Ends once an evaluation is above this."""
    variant: str = ""
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.task.replace('/', '-')}{self.variant and '-' + self.variant}-seed{self.seed}"

    def command(self, runs: Path, anew: bool = False) -> list[str]:
        logdir = runs / self.name
        arguments = ["scripts/train.py", "tdmpc2", "--steps", str(self.steps)]
        if not anew and any((logdir / "checkpoints").glob("*")):
            return [*arguments, "--resume", str(logdir)]
        every = 1_000 if self.steps < 10_000 else 5_000
        arguments += ["--task", self.task, "--seed", str(self.seed), "--eval-every", str(every)]
        arguments += [*PLANNER, *self.options]
        arguments += ["--stop-above", str(self.solved)] if self.solved is not None else []
        return [*arguments, "--logdir", str(logdir)]

    @property
    def record(self) -> Path:
        return RESULTS / "learning" / f"{self.name}.json"

    def done(self) -> bool:
        """Whether the record shows these steps; the runs of one name go on from each other."""
        if not self.record.is_file():
            return False
        result = json.loads(self.record.read_text())
        return result["env_steps"] >= self.steps or (self.solved is not None and result["return"] > self.solved)

    def keep(self, runs: Path) -> None:
        """Write the record of a finished run."""
        result = json.loads((runs / self.name / "result.json").read_text())
        rows = [json.loads(line) for line in (runs / self.name / "metrics.jsonl").read_text().splitlines()]
        # By step: a run that goes on evaluates anew where it had ended.
        curve = {row["step"]: round(row["eval/return"], 1) for row in rows if "eval/return" in row}
        command = f"python {shlex.join(self.command(RUNS_FOLDER, anew=True))}"
        record = {"command": command, "curve": list(curve.items()), **result}
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.record.write_text(json.dumps(record, indent=1) + "\n")


RUNS = (
    Run("Pendulum-v1", 2_400, 0),
    Run("dmc/cartpole-swingup", 50_000, 0),
    Run("CartPole-v1", 50_000, 0, solved=499.0),
    Run("dmc/reacher-easy", 50_000, 0),
    # Single random actions never reach its goal: 0 of 60 episodes, against 18 of 60 with held ones.
    Run("Acrobot-v1", 50_000, 0, solved=-90.0, options=("--random-hold", "2")),
    Run("Pendulum-v1", 2_400, 1),
    Run("Pendulum-v1", 2_400, 2),
    Run("dmc/cartpole-balance", 50_000, 0),
    Run("dmc/finger-spin", 50_000, 0),
    Run("dmc/cartpole-swingup", 100_000, 0),
    Run("dmc/reacher-easy", 100_000, 0),
    Run("dmc/cartpole-swingup", 50_000, 1),
    Run("dmc/cartpole-swingup", 50_000, 2),
    Run("dmc/cartpole-swingup", 50_000, 0, variant="float32", options=("--precision", "float32")),
)

PUBLISHED = {  # mean and worst of 3 seeds at 100 k environment steps, TD-MPC2's repository, size 5m
    "dmc/cartpole-swingup": (839.4, 789.8),
    "dmc/cartpole-balance": (997.8, 997.0),
    "dmc/reacher-easy": (936.9, 859.9),
    "dmc/finger-spin": (947.5, 919.6),
}
HEADER = """# Learning on a CPU: tdmpc2, size 1m

Made by `make learn`, on two cores; the returns are means over 10 evaluation episodes with their standard error. Size 1m
plans with 256 candidates in 4 iterations. The curves, the exact commands and the versions are in `learning/`. The machine
did other work at times: the wall minutes are upper bounds.

![curves](learning.png)

"""


def summarise() -> None:
    """Write the table and the figure of all records that are there."""
    import matplotlib.pyplot as plt

    latest = {run.name: run for run in RUNS if run.record.is_file()}
    records = [(run, json.loads(run.record.read_text())) for run in latest.values()]
    lines = ["| task | seed | environment steps | return | published at 100 k (5m) | wall minutes |", "|---" * 6 + "|"]
    tasks = list(dict.fromkeys(run.task for run, _ in records))
    figure, axes = plt.subplots(2, -(-len(tasks) // 2), figsize=(3.2 * -(-len(tasks) // 2), 5.2), squeeze=False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        for run, record in records:
            if run.task == task:
                label = f"{run.variant or 'bfloat16'}, seed {run.seed}"
                axis.plot(*zip(*record["curve"], strict=True), marker=".", label=label)
        if task in PUBLISHED:
            mean, worst = PUBLISHED[task]
            axis.errorbar([100_000], [mean], yerr=[[mean - worst], [0]], fmt="k*", label="published (5m), worst seed")
        axis.set_title(task, fontsize=9)
        axis.set_xlabel("environment steps", fontsize=8)
        axis.legend(fontsize=6)
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(tasks) :]:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(RESULTS / "learning.png", dpi=110)
    for run, record in records:
        published = "{:.0f} (worst seed {:.0f})".format(*PUBLISHED[run.task]) if run.task in PUBLISHED else ""
        value = f"{record['return']:.1f} ± {record['return_standard_error']:.1f}"
        name = f"{run.task}{run.variant and f' ({run.variant})'}"
        minutes = record["wall_seconds"] / 60
        lines.append(f"| {name} | {run.seed} | {record['env_steps']:,} | {value} | {published} | {minutes:.0f} |")
    (RESULTS / "learning.md").write_text(HEADER + "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run only those whose name contains this, in any case")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the table and the figure alone")
    parser.add_argument("--runs", type=Path, default=RUNS_FOLDER, help="the folder of the runs, which go on from there")
    arguments = parser.parse_args()
    for run in RUNS:
        if arguments.collect or run.done() or arguments.only.lower() not in run.name.lower():
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
