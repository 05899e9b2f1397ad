"""The public R2-Dreamer code at size 12m, as `benchmarks/beside.py` asks it: a line `update` in, milliseconds out.

    git clone https://github.com/NM512/r2dreamer
    python3.11 -m venv venv
    venv/bin/pip install torch==2.13.0 tensordict==0.8.3 torchrl==0.8.1 hydra-core==1.3.8 gymnasium==0.29.1 tensorboard
    python benchmarks/beside.py --python venv/bin/python \\
        --script "benchmarks/references/r2dreamer.py r2dreamer dreamer vectors" \\
        --recipe dreamerv3 --size 12m --kinds update --variants "bfloat16, compiled" --rounds 5 --warm-up 2

After the checkout: `dreamer` or `r2dreamer`, its representation loss; `vectors` (24 numbers) or `pixels` (64 × 64); and, if
wanted, another precision than bfloat16, its fastest on a CPU. Batches of 16 × 64 with 6 actions, made up, eagerly, by its own
configuration. A line `memory` gives the process's peak in MB.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import sys
import time
from pathlib import Path

SIZE, LENGTH = 16, 64


def main() -> None:
    checkout, loss, kind, *rest = sys.argv[1:]
    precision = rest[0] if rest else "bfloat16"
    os.chdir(checkout)
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent)]
    with contextlib.redirect_stdout(sys.stderr):
        import dreamer
        import numpy as np
        import torch
        from gymnasium import spaces
        from hydra import compose, initialize_config_dir
        from tensordict import TensorDict

        # Its own autocast asks for float16, which a CPU is slower at than at float32.
        autocast, dtype = dreamer.autocast, getattr(torch, precision)
        enabled = {"enabled": dtype is not torch.float32} | ({} if dtype is torch.float32 else {"dtype": dtype})

        @functools.wraps(autocast)
        def on_cpu(*_: object, **__: object) -> object:
            return autocast("cpu", **enabled)

        dreamer.autocast = on_cpu
        task = "dmc_proprio" if kind == "vectors" else "dmc_vision"
        with initialize_config_dir(os.path.abspath("configs"), version_base=None):
            overrides = [f"env={task}", "model=size12M", "device=cpu", f"model.rep_loss={loss}", "model.compile=False"]
            config = compose("configs", overrides=overrides)
        if kind == "pixels":
            observed: dict[str, spaces.Space] = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)}
        else:
            observed = {"state": spaces.Box(-np.inf, np.inf, (24,), np.float32)}
        torch.manual_seed(0)
        agent = dreamer.Dreamer(config.model, spaces.Dict(observed), spaces.Box(-1, 1, (6,), np.float32)).to("cpu")

    class Replay:
        """Made-up steps."""

        def sample(self) -> tuple:
            no = torch.zeros(SIZE, LENGTH, 1, dtype=torch.bool)
            values = {"action": torch.rand(SIZE, LENGTH, 6) * 2 - 1, "reward": torch.rand(SIZE, LENGTH, 1)}
            values |= {"is_first": no, "is_last": no.clone(), "is_terminal": no.clone()}
            if kind == "pixels":
                values["image"] = torch.randint(0, 256, (SIZE, LENGTH, 64, 64, 3)).byte()
            else:
                values["state"] = torch.randn(SIZE, LENGTH, 24)
            rssm = agent.rssm
            initial = torch.zeros(SIZE, rssm._stoch, rssm._discrete), torch.zeros(SIZE, rssm._deter)
            return TensorDict(values, batch_size=(SIZE, LENGTH)), None, initial

        def update(self, *_: object) -> None:
            """Latent states written back: nothing is kept."""

    replay = Replay()
    for line in sys.stdin:
        if line.strip() == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, flush=True)
            continue
        started = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            agent.update(replay)
        print(1e3 * (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
