"""Updates and plans a second beside another implementation, alternating within one run.

    python benchmarks/beside.py --python OTHER/venv/bin/python --script "benchmarks/references/tdmpc2.py CHECKOUT"
    python benchmarks/beside.py --recipe dreamerv3 --size 12m --kinds update --python ... --script ...

The other implementation runs in a process of its own. Its script, in `benchmarks/references/`, where it is said how to get the
code, answers each line ``update`` or ``plan`` on its standard input by doing one and printing the milliseconds. Both do the same
work, on 24 numbers or an image and 6 actions: TD-MPC2's recipe at size 5m in batches of 256 × 4, MPPI with 512 candidates in 6
iterations, without terminations; the Dreamers in batches of 16 × 64, with a continuation.
"""

from __future__ import annotations

import argparse
import json
import shlex
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
    parser.add_argument("--script", required=True, help="with its arguments, quoted")
    parser.add_argument("--recipe", default="tdmpc2")
    parser.add_argument("--size", default="5m")
    parser.add_argument("--image-size", type=int, help="side of an image that is observed instead of numbers")
    parser.add_argument("--kinds", nargs="+", choices=("update", "plan"), default=["update", "plan"])
    parser.add_argument("--variants", nargs="+", default=["float32, eager", "bfloat16, eager", "bfloat16, compiled"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds that are not counted")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "speed_beside_tdmpc2.json")
    arguments = parser.parse_args()

    from benchmark import BenchmarkCommand, Workload, milliseconds

    import agents
    from agents.run import versions

    other = subprocess.Popen(
        [arguments.python, *shlex.split(arguments.script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert other.stdin is not None
    assert other.stdout is not None

    def reference(kind: str) -> float:
        other.stdin.write(f"{kind}\n")
        return float(other.stdout.readline())

    def workload(variant: str) -> Workload:
        precision, compiled = variant.split(", ")
        execution = agents.ExecutionConfig("cpu", precision, "yes" if compiled == "compiled" else "no")
        recipe = agents.recipe(arguments.recipe, arguments.size)
        return Workload(
            BenchmarkCommand(
                recipe, execution, image_size=arguments.image_size, terminates=arguments.recipe != "tdmpc2"
            )
        )

    ours = {name: workload(name) for name in arguments.variants}
    device = next(iter(ours.values())).execution.device
    command = shlex.join(["python", "benchmarks/beside.py", *sys.argv[1:]])
    result: dict[str, object] = {"command": command, "execution": device.type, "versions": versions()}
    for kind in arguments.kinds:
        times: dict[str, list[float]] = {name: [] for name in ("reference", *ours)}
        for round_number in range(arguments.rounds + arguments.warm_up):
            found = {"reference": reference(kind)}
            for name, work in ours.items():
                time.sleep(PAUSE)
                found[name] = milliseconds(getattr(work, kind), 1, device)[0]
            time.sleep(PAUSE)
            if round_number >= arguments.warm_up:
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
