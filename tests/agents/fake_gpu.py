"""A GPU without memory or arithmetic: what runs on it shows where devices are mixed, and where the host would wait for it.

It takes PyTorch's private device for itself, so it wants a process of its own (``in_a_process_of_its_own``).
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from test_combinations import agent_of
from test_every_objective_in_recipes import agent_with, steps_for
from tiny import batch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import agents
from agents.actor import Actor
from agents.agent import Agent
from agents.execution import Execution
from agents.learnable import Losses
from agents.learner import Learner
from agents.optimisers import OptimiserConfig
from worldmodel.data import Spec, Steps
from worldmodel.encoders import ConvolutionalEncoderConfig

ROOT = str(Path(__file__).parent.parent.parent)
SEEN = {
    "vectors": spaces.Box(-np.inf, np.inf, (24,), np.float32),
    "pictures": spaces.Box(0, 255, (32, 32, 3), np.uint8),
}
CHOSEN = {"continuous": spaces.Box(-1, 1, (3,)), "discrete": spaces.Discrete(3)}


def of_recipe(name: str, seen: str, chosen: str):
    spec = Spec.from_spaces(SEEN[seen], CHOSEN[chosen])
    config = agents.recipe(name, "1m").agent
    if name == "tdmpc2" and seen == "pictures":
        config = dataclasses.replace(
            config, model=dataclasses.replace(config.model, encoder=ConvolutionalEncoderConfig(depth=1))
        )
    steps = batch(spec, size=4, length=6)
    if seen == "pictures":
        steps = steps._replace(observation={key: value.byte() for key, value in steps.observation.items()})
    return agents.Agent(config, spec, episode_length=500), steps


def of_objective(name: str):
    # Whose clusters are fitted anew waits then: not within two updates.
    rarely = {"prototypes": 1000, "memory": 1000, "refit_every": 1000} if name == "deepcluster" else {}
    agent = agent_with(name, "dreamerv3", **rarely)
    return agent, steps_for(agent)


def of_pair(kind: str, behaviour: str, discrete: bool):
    agent = agent_of(kind, behaviour, discrete)
    return agent, batch(agent.spec, size=8, length=5)


def in_a_process_of_its_own() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _register)


def _register() -> None:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend("gpu")
    torch.gpu.get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch.__future__.set_overwrite_module_params_on_conversion(True)


class Crossings(TorchDispatchMode):
    """Which operations have tensors of two devices, and the last line of the toolkit that led to each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        read, made = (
            {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}
            for tree in ((args, kwargs), out)
        )
        # The latter reads on the host whether a factorisation failed, which a fake never does.
        if len(read | made) > 1 or "linalg_check_errors" in str(func):
            self.seen.append(f"{func} from {sorted(read)} to {sorted(made)}, {_ours(traceback.extract_stack()[:-1])}")
        return out


def _ours(stack: list[traceback.FrameSummary]) -> str:
    ours = [frame for frame in stack if frame.filename.startswith(ROOT) and ".venv" not in frame.filename]
    ours = [frame for frame in ours if frame.name != "__torch_dispatch__"]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


class OnFakeGPU(Execution):
    def __init__(self) -> None:
        self.device, self.dtype, self.compiles = torch.device("gpu", 0), torch.float32, False

    def autocast(self):
        return contextlib.nullcontext()


def crossings(build, arguments: tuple, spoil: bool = False) -> tuple[list[str], list[str]]:
    """Of two updates of the agent that ``build(*arguments)`` makes, and of two decisions of three environments.

    What must wait for the device, such as ``.item()`` or a choice by a mask, raises instead.

    Args:
        spoil: the agent fetches its loss, as a hasty one would.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    agent, steps = build(*arguments)
    with FakeTensorMode():
        fake = functools.partial(_empty, device="gpu:0")
        agent._apply(fake)
        agent.to = lambda device: agent  # it is there
        if spoil:
            agent.register_forward_hook(_fetch)
        learner = Learner(agent, OptimiserConfig(), OnFakeGPU(), 1000)
        actor = Actor(agent, OnFakeGPU(), 3, explore=True)
        there, here = steps.map(fake), steps.map(lambda value: _empty(value, "cpu")[:3, 0])
        try:
            with Crossings() as updating:
                for _ in range(2):
                    _update(learner, there)
            with Crossings() as acting:
                for _ in range(2):
                    actor.act(here)
        except Exception as error:  # which not every process can be told of as it is
            raise AssertionError(
                f"{_ours(traceback.extract_tb(error.__traceback__))}: {str(error).splitlines()[0]}"
            ) from None
    return updating.seen, acting.seen


def _fetch(agent: Agent, inputs: tuple, losses: Losses) -> None:
    losses.total.detach().cpu()


def _empty(value: torch.Tensor, device: str) -> torch.Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device=device)


def _update(learner: Learner, steps: Steps) -> None:
    """As ``Learner.update``, without the optimiser's step, whose counts on the CPU are numbers that a fake has not."""
    agent: Agent = learner.agent
    agent.train()
    losses = learner._forward(steps)
    losses.total.backward()
    learner._watch(losses.terms | learner.optimiser.clip())
    agent.after_update(losses.pending, 0.5)


def crossings_in_a_dream(discrete: bool) -> list[str]:
    """Of three steps of four dreams that take and give tensors."""
    from test_dream import dream
    from torch._subclasses.fake_tensor import FakeTensorMode

    from worldmodel.dynamics import map_state

    tasks = dream(discrete=discrete, horizon=10, tensors=True)
    tasks.reset(seed=0)
    actions = tasks.model.spec.action.random(4, torch.Generator().manual_seed(0))
    with FakeTensorMode():
        fake = functools.partial(_empty, device="gpu:0")
        tasks.model._apply(fake)
        tasks._state, tasks._starts = map_state(fake, tasks._state), map_state(fake, tasks._starts)
        tasks._weights, tasks._age = fake(tasks._weights), fake(tasks._age)
        tasks._own_draws = torch.no_grad  # a fake has no random state
        try:
            with Crossings() as stepping:
                for _ in range(3):
                    tasks.step(fake(actions))
        except Exception as error:
            raise AssertionError(
                f"{_ours(traceback.extract_tb(error.__traceback__))}: {str(error).splitlines()[0]}"
            ) from None
    return stepping.seen
