"""The commands, run in this process or in one of their own."""

import contextlib
import io
import json
import logging
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = shlex.split("""
    --size 1m --model.encoder.units 8 --model.dynamics.units 8 --model.dynamics.latent-dim 16 --model.reward.units 8
    --model.reward.bins.bins 11 --behaviour.units 8 --behaviour.critic-bins.bins 11 --behaviour.planner.iterations 2
    --behaviour.planner.samples 16 --behaviour.planner.elites 4 --behaviour.planner.policy-candidates 2
    --batch-size 8 --train-ratio 32 --random-decisions 30 --compile no --precision float32 --device cpu
    --time-limit 12 --eval-episodes 1 --final-episodes 2 --films 0
""")

TINY_DREAMER = shlex.split("""
    --size 1m --model.dynamics.deterministic 16 --model.dynamics.hidden 8 --model.dynamics.groups 4
    --behaviour.units 8 --behaviour.horizon 3 --batch-size 4 --batch-length 8 --train-ratio 32 --random-decisions 30
    --compile no --precision float32 --device cpu --time-limit 12 --eval-episodes 1 --final-episodes 2 --films 0
""")

TINY_PLANET = shlex.split("""
    --size 1m --model.dynamics.deterministic 16 --model.dynamics.hidden 8 --model.dynamics.stochastic 4
    --behaviour.planner.samples 8 --behaviour.planner.elites 2 --behaviour.planner.iterations 2 --behaviour.planner.horizon 3
    --batch-size 4 --batch-length 8 --train-ratio 32 --random-decisions 30
    --compile no --precision float32 --device cpu --time-limit 12 --eval-episodes 1 --final-episodes 2 --films 0
""")


class Result:
    def __init__(self, code: int, out: str, error: str) -> None:
        self.code, self.out, self.error = code, out, error


def command(script: str, *arguments: object) -> Result:
    """A command in this process, which saves seconds of imports."""
    before = sys.argv, sys.path[:], logging.getLogger().handlers[:]
    sys.argv, code = [script, *map(str, arguments)], 0
    sys.path.insert(0, str(SCRIPTS))
    for handler in before[2]:  # logging.basicConfig is to find none, as in a process of its own
        logging.getLogger().removeHandler(handler)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv, sys.path[:] = before[0], before[1]
            logging.getLogger().handlers[:] = before[2]
    return Result(code, out.getvalue(), error.getvalue())


def started(script: str, *arguments: object) -> subprocess.Popen:
    """A command in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def rows(logdir: Path) -> list[dict]:
    """The metrics of a run, without what the clock says."""
    lines = (logdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(("speed/", "seconds"))} for line in lines]
