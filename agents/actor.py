"""An agent at work: its acting state for N environments, on its device."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from agents.agent import ActingState, Agent
from agents.execution import Execution
from worldmodel.data import Steps
from worldmodel.dynamics import map_state


class Actor:
    """Decides for N environments at once, and remembers what the agent must carry from one decision to the next."""

    def __init__(self, agent: Agent, execution: Execution, num_envs: int, *, explore: bool) -> None:
        self.agent, self.execution = agent.to(execution.device), execution
        self.state = agent.initial(num_envs)
        self._act = functools.partial(_compiled_act(agent, execution), explore=explore)

    def act(self, current: Steps) -> Tensor:
        """The steps [N] where the environments stand → actions [N, A] on the CPU."""
        self.agent.eval()
        self.execution.mark_step()
        here = current.to(self.execution.device, non_blocking=True)
        with self.execution.autocast():
            action, state = self._act(here.observation, here.is_first, self.state)
        self.state = _own(state) if self.execution.captures else state
        return action.float().cpu()

    def watch(self, current: Steps, action: Tensor) -> None:
        """Follow the steps [N] where the environments stand, with actions [N, A] that were chosen elsewhere."""
        if not self.agent.model.dynamics.stored():
            return  # a belief without a past
        self.agent.eval()
        here = current.to(self.execution.device)
        with self.execution.autocast():
            self.state = self.agent.watch(here.observation, here.is_first, self.state, action.to(self.execution.device))

    def stored(self) -> dict[str, Tensor]:
        """The belief [N, ...] about the last step, as the replay keeps it."""
        return self.agent.model.dynamics.store(self.state.latent)

    def state_dict(self) -> dict[str, Tensor]:
        """The acting state's tensors."""
        return {str(index): tensor for index, tensor in enumerate(_flatten(self.state))}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        loaded = iter([tensors[str(index)].to(self.execution.device) for index in range(len(tensors))])
        self.state = _map(lambda _: next(loaded), self.state)


def _compiled_act(agent: Agent, execution: Execution) -> Callable:
    """A decision compiled whole for CUDA graphs, if it is one graph; on a CPU its hot paths, compiled in a tenth of the time."""
    if execution.captures:
        return execution.compile(agent.act) if agent.behaviour.one_graph else agent.act
    for name in agent.behaviour.hot_paths:
        setattr(agent.behaviour, name, execution.compile(getattr(agent.behaviour, name)))
    return agent.act


def _map(function: Callable[[Tensor], Tensor], state: ActingState) -> ActingState:
    return ActingState(
        map_state(function, state.latent), function(state.action), tuple(function(tensor) for tensor in state.memory)
    )


def _flatten(state: ActingState) -> list[Tensor]:
    return [*state.latent, state.action, *state.memory]


def _own(state: ActingState) -> ActingState:
    """Copies: what a CUDA graph returned is overwritten by its next replay."""
    return _map(torch.clone, state)
