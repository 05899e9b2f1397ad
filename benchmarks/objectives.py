"""All objectives on three pixel worlds, clean and distracted: the tables behind the README's page on them.

    python benchmarks/objectives.py                    # the encoder alone: some three hours and a half of two cores
    python benchmarks/objectives.py --dynamics rssm    # the same beside a recurrent model, whose features are probed as well

It records what the worlds need, runs scripts/compare_objectives.py for each, two at a time on a core each, and goes on where it
was stopped. Tables and figures are left in results/objectives/<world>, or <world>-rssm.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path("benchmarks/results/objectives")
SMALL = "--observation both --image-size 32 --episodes 120"
# Of dm_control, what moves within an episode and can be seen at this size: actions of four steps, each drawn for two on average,
# and 100 of them to an episode. (Of reacher's to_target much is the target, which stands still: no state within an episode.)
MOVED = "--fast-rendering --action-repeat 4 --time-limit 400 --random-hold 2"
WORLDS = {
    "cartpole": f"--task dmc/cartpole-swingup {MOVED} {SMALL}",
    "finger": f"--task dmc/finger-spin {MOVED} {SMALL}",
    "minigrid": f"--task minigrid/DoorKey-6x6 --time-limit 100 {SMALL}",
}
# Of a single picture nobody can tell the velocity: without a recurrent model it is not asked for.
IN_PICTURES = {"cartpole": ["position"], "finger": ["position"], "minigrid": ["place", "heading"]}
IN_FEATURES = {
    "cartpole": ["position", "velocity"],
    "finger": ["position", "velocity"],
    "minigrid": ["place", "heading"],
}
SEEDS = {"cartpole": 3}
# Besides the papers' forms: what takes the episode's identity out. Statistics within an episode make it worthless, noise that is
# drawn anew for each view has it disregarded. (That noise is of the distraction's own kind and strength: what it shows is what
# can be reached by who knows the distraction.)
WITHIN_EPISODES = (
    "cpc,negatives=episode",
    "ntxent,negatives=episode",
    "vicreg,between=steps",
    "vicreg,between=steps,within=episode",
    "barlow-twins,between=steps",
    "barlow-twins,between=steps,within=episode",
    "sigreg,between=steps,within=episode",
    "vicreg,between=views,augmentation.noise=0.1",
    "vicreg,between=views,augmentation.noise=0.1,within=episode",
    "ntxent,between=views,augmentation.noise=0.1",
    "ntxent,between=views,augmentation.noise=0.1,negatives=episode",
)


def collect(world: str, data: Path) -> None:
    """Record a world, unless that has been done: whole, or not at all."""
    if (data / world).is_dir():
        return
    part = data / f"{world}.part"
    shutil.rmtree(part, ignore_errors=True)
    run(["scripts/collect.py", *shlex.split(WORLDS[world]), "--out", str(part)])
    part.rename(data / world)


def compare(world: str, data: Path, dynamics: str) -> list[str]:
    out = RESULTS / f"{world}{dynamics and f'-{dynamics}'}"
    command = ["scripts/compare_objectives.py", "--data", str(data / world), "--objectives", "all", *WITHIN_EPISODES]
    command += shlex.split("--steps 600 --held-out 0.4 --precision float32 --device cpu")
    command += ["--distractions", "episode-noise:0.1", "background:0.5", "--out", str(out)]
    if dynamics:
        return [*command, "--dynamics", dynamics, "--targets", *IN_FEATURES[world]]
    return [*command, "--seeds", str(SEEDS.get(world, 1)), "--targets", *IN_PICTURES[world]]


def run(command: list[str], log: Path | None = None) -> None:
    print(shlex.join(["python", *command]), flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if log is None:
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
        return
    with log.open("a") as file:
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynamics", default="", help="rssm, gaussian-rssm or simnorm; left out, the encoder alone")
    parser.add_argument(
        "--data", type=Path, default=Path("data/objectives"), help="where the recordings are, or will be"
    )
    parser.add_argument("--worlds", nargs="+", choices=tuple(WORLDS), default=tuple(WORLDS), help="which worlds")
    arguments = parser.parse_args()
    data = arguments.data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    for world in arguments.worlds:
        collect(world, data)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run, compare(world, data, arguments.dynamics), data / f"{world}.log")
            for world in arguments.worlds
        ]
        print(f"What they say is in {data}/*.log.", flush=True)
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
