"""One optimisation step: forward, backward, clipping, the optimiser's step, targets; and the watch over NaN."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from agents.execution import Execution
from agents.learnable import Learnable, Losses
from agents.optimisers import LaProp, Optimiser, OptimiserConfig
from worldmodel.data import Replay, Steps
from worldmodel.diagnostics import rows_of
from worldmodel.representation import Representation


class NonFiniteLossError(FloatingPointError):
    """A loss or a gradient became NaN or infinite; the weights are those from before that update."""


class Sampling(Protocol):
    """How batches are drawn, as a ``Recipe`` says it."""

    @property
    def batch_size(self) -> int: ...
    @property
    def batch_length(self) -> int: ...
    @property
    def across_episodes(self) -> bool: ...
    @property
    def fresh_first(self) -> bool: ...


def context_steps(model: Representation) -> int:
    """Steps before a sequence that it is sampled with: 1 for models that store latent states, else 0."""
    return 1 if model.dynamics is not None and model.dynamics.stored() else 0


class Learner:
    """Updates from batches of steps what has a ``forward(steps)`` to ``Losses``, an ``after_update`` and a ``model``: an agent.

    Args:
        total_updates: the length of the training, from which the progress told to the agent is counted.
    """

    def __init__(self, agent: Learnable, config: OptimiserConfig, execution: Execution, total_updates: int = 1) -> None:
        self.agent = agent.to(execution.device)
        self.config, self.execution = config, execution
        self.total_updates, self.updates = max(total_updates, 1), 0
        self._found_inf = torch.zeros((), device=execution.device)
        # The step is skipped on the device where this is 1: a bad update never reaches the weights.
        self.optimiser = Optimiser(self.agent, config, self._found_inf)
        self._loss = execution.compile(self._forward)
        self.stored: dict[str, Tensor] = {}
        """The last update's latent states [B, T, ...], for the replay."""
        self._terms: list[str] = []
        self._bad: Tensor | None = None

    def _forward(self, steps: Steps) -> Losses:
        with self.execution.autocast():
            return self.agent(steps)

    def learn_from(self, replay: Replay, sampling: Sampling) -> dict[str, Tensor]:
        """One update on a batch of the replay.

        Where the model stores latent states, each sequence starts from the one stored with the step before it, and what the
        update made of the sequence is written back.
        """
        context = context_steps(self.agent.model)
        steps, index = replay.sample(
            sampling.batch_size,
            sampling.batch_length + context,
            across_episodes=sampling.across_episodes,
            fresh_every=sampling.batch_length if sampling.fresh_first else None,
            device=self.execution.device,
        )
        metrics = self.update(steps)
        if context:
            replay.write_back(index[:, 1:], self.stored)
        return metrics

    def glance(self, replay: Replay, sampling: Sampling, rows: int = 512) -> dict[str, Tensor]:
        """Embeddings, and features where there are dynamics, of about so many replayed steps: rows [N, D] by name.

        The run goes on as if nobody had looked.
        """
        length = sampling.batch_length + context_steps(self.agent.model)
        count = max(2, rows // length)
        across = sampling.across_episodes
        steps = replay.glance(count, length, across_episodes=across, device=self.execution.device)
        with self.execution.autocast():
            return rows_of(self.agent.model.eval(), steps)

    def update(self, steps: Steps) -> dict[str, Tensor]:
        """One optimisation step on a batch [B, T] → losses and metrics, scalars on the device.

        Raises:
            NonFiniteLossError: naming the term; on a GPU it may come with a later call (see ``check``), but the
                weights are those from before the bad update all the same.
        """
        self.agent.train()
        self.execution.mark_step()
        losses = self._loss(steps)
        losses.total.backward()
        norms = self.optimiser.clip()
        terms = losses.terms | {f"gradient of the {name}": norm for name, norm in norms.items()}
        self._watch(terms)
        self.optimiser.step(self.updates)
        if self.execution.device.type == "cpu":
            self.check()
        self.updates += 1
        self.stored = losses.stored
        self.agent.after_update(losses.pending, min(self.updates / self.total_updates, 1.0))
        return losses.terms | losses.metrics | {f"gradient_norm_{name}": norm for name, norm in norms.items()}

    def _watch(self, terms: dict[str, Tensor]) -> None:
        bad = ~torch.stack([term.detach().float() for term in terms.values()]).isfinite()
        self._terms, self._bad = list(terms), bad if self._bad is None else self._bad | bad
        # Once bad, always bad: no update is applied any more until the run has been told.
        self._found_inf.copy_(self._bad.any())

    def check(self) -> None:
        """Raise NonFiniteLossError if an update since the last call was bad. Waits for the GPU: call it now and then."""
        if self._bad is None or not self._found_inf.item():
            return
        names = [name for name, bad in zip(self._terms, self._bad.tolist(), strict=True) if bad]
        raise NonFiniteLossError(
            f"Not finite in update {self.updates + 1}: {', '.join(names)}. The weights are those from before it. "
            "Look at the inputs' scale, or lower optimiser.learning_rate."
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The optimiser's tensors by parameter name, and the count of updates."""
        names = {id(parameter): name for name, parameter in self.agent.named_parameters()}
        tensors = {
            f"{names[id(parameter)]}/{key}": value
            for parameter, state in self.optimiser.algorithm.state.items()
            for key, value in state.items()
        }
        return tensors | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        tensors = dict(tensors)
        self.updates = int(tensors.pop("updates"))
        parameters = dict(self.agent.named_parameters())
        for path, value in tensors.items():
            name, key = path.rsplit("/", 1)
            parameter = parameters[name]
            # Moments lie in memory as their parameter does: a fused optimiser reads both by address.
            moment = value.shape == parameter.shape
            # LaProp counts on the CPU, so that no update waits for a GPU to read it.
            where = value.device if isinstance(self.optimiser.algorithm, LaProp) else parameter.device
            own = torch.empty_like(parameter).copy_(value) if moment else value.to(where)
            self.optimiser.algorithm.state[parameter][key] = own
