"""The public TD-MPC2 code at size 5m, as `benchmarks/beside.py` asks it: a line `update` or `plan` in, milliseconds out.

    git clone https://github.com/nicklashansen/tdmpc2 && git -C tdmpc2 checkout e9f5932
    python3.11 -m venv venv
    venv/bin/pip install torch==2.13.0 tensordict==0.8.3 torchrl==0.8.1 hydra-core==1.3.8 gymnasium==0.29.1
    python benchmarks/beside.py --python venv/bin/python --script "benchmarks/references/tdmpc2.py tdmpc2"

It runs from a copy in which devices are changed to the CPU, and nothing else: "cuda:0" becomes "cpu", Adam is not
"capturable", which it refuses to be on a CPU, and no GPU memory is asked for. Batches of 256 × 4 of 24 numbers and 6 actions, 512
candidates in 6 iterations, all by its own configuration, in float32, as published.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

CHANGES = {"cuda:0": "cpu", "capturable=True": "capturable=False", "torch.cuda.mem_get_info()": "(0, 0)"}


def copied_to_cpu(checkout: Path, folder: Path) -> Path:
    """A copy of the checkout's code with the changes."""
    code = folder / "tdmpc2"
    shutil.copytree(checkout / "tdmpc2", code)
    for path in code.rglob("*.py"):
        text = path.read_text()
        for old, new in CHANGES.items():
            text = text.replace(old, new)
        path.write_text(text)
    return code


def main() -> None:
    # As its own train.py sets them, before torch is imported.
    os.environ |= {"MUJOCO_GL": "disabled", "LAZY_LEGACY_OP": "0", "TORCHDYNAMO_INLINE_INBUILT_NN_MODULES": "1"}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        code = copied_to_cpu(Path(sys.argv[1]), Path(folder))
        # This file has the name of the module that is wanted.
        sys.path[:] = [
            str(code),
            *(path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent),
        ]
        import hydra
        import torch
        from omegaconf import OmegaConf

        hydra.utils.get_original_cwd = lambda: folder  # outside of hydra.main there is none
        from common.parser import parse_cfg
        from tdmpc2 import TDMPC2

        config = OmegaConf.load(code / "config.yaml")
        del config["defaults"]  # of its cluster's launcher
        chosen = {"task": "walker-run", "model_size": 5, "compile": False, "seed": 1}
        config = parse_cfg(OmegaConf.merge(config, chosen))
        config.obs_shape, config.action_dim, config.episode_length = {"state": (24,)}, 6, 500
        config.seed_steps = 2500
        torch.manual_seed(1)
        agent = TDMPC2(config)
    length, size = config.horizon, config.batch_size
    observation, action = torch.randn(length + 1, size, 24), torch.rand(length, size, 6) * 2 - 1
    reward, terminated, seen = torch.rand(length, size, 1), torch.zeros(length, size, 1), torch.randn(24)
    kinds = {"update": lambda: agent._update(observation, action, reward, terminated), "plan": lambda: agent.act(seen)}
    for line in sys.stdin:
        started = time.perf_counter()
        kinds[line.strip()]()
        print(1e3 * (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
