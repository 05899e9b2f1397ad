"""Learning on a CPU, size 1m: the runs behind the README's results, one after the other, going on where they stopped.

    make learn                      # or: python benchmarks/learn.py --only pendulum

Writes ``learning.csv`` (final evaluations), ``curves.csv`` (evaluations during training) and ``learning.png`` (beside
the published points) to ``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
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

    @property
    def logdir(self) -> Path:
        return ROOT / "runs" / "learn" / self.name

    def command(self) -> list[str]:
        arguments = ["scripts/train.py", "tdmpc2", "--steps", str(self.steps)]
        if any((self.logdir / "checkpoints").glob("*")):
            return [*arguments, "--resume", str(self.logdir.relative_to(ROOT))]
        every = 1_000 if self.steps < 10_000 else 5_000
        arguments += ["--task", self.task, "--seed", str(self.seed), "--eval-every", str(every), *PLANNER, *self.options]
        arguments += ["--stop-above", str(self.solved)] if self.solved is not None else []
        return [*arguments, "--logdir", str(self.logdir.relative_to(ROOT))]

    def done(self) -> bool:
        result = self.logdir / "result.json"
        if not result.is_file():
            return False
        data = json.loads(result.read_text())
        return data["env_steps"] >= self.steps or (self.solved is not None and data["return"] > self.solved)


RUNS = (
    Run("Pendulum-v1", 2_400, 0),
    Run("dmc/cartpole-swingup", 100_000, 0),
    Run("CartPole-v1", 50_000, 0, solved=499.0),
    Run("dmc/reacher-easy", 50_000, 0),
    Run("Acrobot-v1", 50_000, 0, solved=-90.0),
    Run("dmc/finger-spin", 50_000, 0),
    Run("dmc/cartpole-balance", 100_000, 0),
    Run("Pendulum-v1", 2_400, 1),
    Run("Pendulum-v1", 2_400, 2),
    Run("dmc/cartpole-swingup", 50_000, 1),
    Run("dmc/cartpole-swingup", 50_000, 2),
    Run("dmc/cartpole-swingup", 50_000, 0, variant="float32", options=("--precision", "float32")),
)


def collect() -> None:
    """Write what is there into the tables and the figure."""
    finals, curves = [], []
    for run in RUNS:
        key = {"task": run.task, "variant": run.variant, "seed": run.seed}
        if (run.logdir / "result.json").is_file():
            data = json.loads((run.logdir / "result.json").read_text())
            names = ("size", "env_steps", "updates", "return", "return_standard_error", "wall_seconds", "execution")
            finals.append(key | {name: data[name] for name in names})
        metrics = run.logdir / "metrics.jsonl"
        for line in metrics.read_text().splitlines() if metrics.is_file() else []:
            row = json.loads(line)
            if "eval/return" in row:
                curves.append(key | {"env_steps": row["step"], "return": round(row["eval/return"], 2)})
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name, rows in (("learning.csv", finals), ("curves.csv", curves)):
        if rows:
            with (RESULTS / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run only those whose name contains this, in any case")
    parser.add_argument("--collect", action="store_true", help="run nothing, write the tables and the figure alone")
    arguments = parser.parse_args()
    for run in RUNS:
        if arguments.collect or run.done() or arguments.only.lower() not in run.name.lower():
            continue
        print(" ".join(run.command()), flush=True)
        code = subprocess.run([sys.executable, *run.command()], cwd=ROOT, check=False).returncode
        collect()
        if code:
            raise SystemExit(code)
    collect()


if __name__ == "__main__":
    main()
