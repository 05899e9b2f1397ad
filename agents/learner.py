"""One optimisation step: forward, backward, clipping, the optimiser's step, targets; and the watch over NaN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.agent import Agent, Losses
from agents.execution import Execution
from worldmodel.data import Steps


class NonFiniteLossError(FloatingPointError):
    """A loss or a gradient became NaN or infinite; the weights are those from before that update."""


@dataclass(frozen=True)
class ParameterGroupConfig:
    """Parameters with settings of their own: those whose names begin with one of ``prefixes``."""

    prefixes: tuple[str, ...]
    """Beginnings of the parameters' names."""
    learning_rate_scale: float = 1.0
    """Times the optimiser's learning rate."""
    eps: float | None = None
    """None: the optimiser's."""
    clips_apart: bool = False
    """Whether its gradient norm is clipped apart from the rest's."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam (arXiv 1412.6980)."""

    learning_rate: float = 3e-4
    """Step size."""
    beta1: float = 0.9
    """Decay of the gradient's moving average."""
    beta2: float = 0.999
    """Decay of the squared gradient's moving average."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    clip: float = 20.0
    """Largest norm of the gradient."""
    groups: tuple[ParameterGroupConfig, ...] = ()


class Learner:
    """Updates an agent from batches of steps.

    Args:
        total_updates: the length of the training, from which the progress told to the agent is counted.
    """

    def __init__(self, agent: Agent, config: OptimiserConfig, execution: Execution, total_updates: int = 1) -> None:
        self.agent = agent.to(execution.device)
        self.config, self.execution = config, execution
        self.total_updates, self.updates = max(total_updates, 1), 0
        self.optimiser, self._clipped = build_optimiser(self.agent, config)
        self._loss = execution.compile(self._forward)
        self._found_inf = torch.zeros((), device=execution.device)
        # Fused optimisers skip their step on the device where this is 1: a bad update never reaches the weights.
        self.optimiser.found_inf = self._found_inf  # type: ignore[attr-defined]
        self.optimiser.grad_scale = None  # type: ignore[attr-defined]
        self._terms: list[str] = []
        self._bad: Tensor | None = None

    def _forward(self, steps: Steps) -> Losses:
        with self.execution.autocast():
            return self.agent(steps)

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
        norms = {
            name: nn.utils.clip_grad_norm_(group, self.config.clip, foreach=True)
            for name, group in self._clipped.items()
        }
        terms = losses.terms | {f"gradient of the {name}": norm for name, norm in norms.items()}
        self._watch(terms)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.execution.device.type == "cpu":
            self.check()
        self.updates += 1
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
            for parameter, state in self.optimiser.state.items()
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
            # Step counts are on the CPU unless the optimiser is fused; Adam's moments lie with their parameter.
            self.optimiser.state[parameter][key] = value.to(parameter.device)


def build_optimiser(agent: Agent, config: OptimiserConfig) -> tuple[torch.optim.Adam, dict[str, list[nn.Parameter]]]:
    """Adam with the configured groups, and the parameters whose gradient norms are clipped together.

    Raises:
        ValueError: a prefix that fits no parameter.
    """
    parameters = {name: p for name, p in agent.named_parameters() if p.requires_grad}
    rest, groups, clipped = dict(parameters), [], {}
    together: list[nn.Parameter] = []
    for group in config.groups:
        for prefix in group.prefixes:
            if not any(name.startswith(prefix) for name in parameters):
                parts = sorted({name.rsplit(".", 2)[0] for name in parameters})
                raise ValueError(f"No parameter's name begins with {prefix!r}; this agent has {', '.join(parts)}.")
        own = [rest.pop(name) for name in list(rest) if name.startswith(group.prefixes)]
        groups.append(
            {
                "params": own,
                "lr": config.learning_rate * group.learning_rate_scale,
                "eps": config.eps if group.eps is None else group.eps,
            }
        )
        if group.clips_apart:
            clipped[group.prefixes[0].strip(".").rsplit(".", 1)[-1]] = own
        else:
            together += own
    groups.append({"params": list(rest.values()), "lr": config.learning_rate, "eps": config.eps})
    clipped["model"] = together + list(rest.values())
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam(groups, lr=config.learning_rate, betas=betas, eps=config.eps, fused=True), clipped
