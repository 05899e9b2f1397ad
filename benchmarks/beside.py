"""Updates and plans a second beside another implementation of TD-MPC2, alternating within one run.

    python benchmarks/beside.py --python OTHER/venv/bin/python --script OTHER/speed.py

The other implementation runs in a process of its own. Its script, which is not part of this project, answers each line
``update`` or ``plan`` on its standard input by doing one and printing the milliseconds. Both do the same work: size 5m,
24 observations, 6 actions, batches of 256 × 4, MPPI with 512 candidates in 6 iterations, no terminations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PAUSE = 0.3  # seconds: idle threads of the other process spin for a while after its work
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True)
    parser.add_argument("--script", required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "speed_beside_tdmpc2.json")
    arguments = parser.parse_args()

    from benchmark import BenchmarkCommand, Workload, milliseconds

    import agents
    from agents.run import versions

    other = subprocess.Popen(
        [arguments.python, arguments.script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert other.stdin is not None
    assert other.stdout is not None

    def reference(kind: str) -> float:
        other.stdin.write(f"{kind}\n")
        return float(other.stdout.readline())

    variants = {
        "float32, eager": agents.ExecutionConfig("cpu", "float32", "no"),
        "bfloat16, eager": agents.ExecutionConfig("cpu", "bfloat16", "no"),
        "bfloat16, compiled": agents.ExecutionConfig("cpu", "bfloat16", "yes"),
    }
    ours = {name: Workload(BenchmarkCommand(execution=execution)) for name, execution in variants.items()}
    device = next(iter(ours.values())).execution.device
    result: dict[str, object] = {"execution": device.type, "versions": versions()}
    for kind in ("update", "plan"):
        times: dict[str, list[float]] = {name: [] for name in ("reference", *ours)}
        for round_number in range(arguments.rounds + 3):
            found = {"reference": reference(kind)}
            for name, work in ours.items():
                time.sleep(PAUSE)
                found[name] = milliseconds(getattr(work, kind), 1, device)[0]
            time.sleep(PAUSE)
            if round_number >= 3:
                for name, value in found.items():
                    times[name].append(value)
        for name, values in times.items():
            ratio = float(np.median(np.array(times["reference"]) / np.array(values)))
            row = {"median_ms": round(float(np.median(values)), 1), "times_as_fast_as_reference": round(ratio, 2)}
            result[f"{kind}, {name}"] = row
            print(f"{kind:>7}  {name:<20} {row['median_ms']:>8} ms   {ratio:.2f} × the reference", flush=True)
    other.stdin.close()
    other.wait()
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
