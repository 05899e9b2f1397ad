"""A recipe's whole loss as the compiler makes it, beside the plain one: the same draws, the same losses, the same gradients.

    python benchmarks/compiled.py dreamerv3 --horizon 3      # some two minutes of two cores, most of them compiling

It fails where they differ by more than float32's rounding. What is drawn is drawn by PyTorch in both, so that it can be compared:
that the compiler's own draws are fresh at each step is for tests/worldmodel/dynamics/test_noise.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable

import torch
import torch._inductor.config
from gymnasium import spaces
from torch import Tensor

import agents
from agents.behaviours import ActorCriticConfig
from agents.learnable import Losses
from worldmodel.data import Spec, Steps

SPEC = Spec.from_spaces(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
MOST = 1e-3


def batch(sequences: int = 6, length: int = 9) -> Steps:
    """Made-up steps [B, T] with two cuts and an end inside."""
    generator = torch.Generator().manual_seed(1)
    is_last, is_terminal = torch.zeros(2, sequences, length, dtype=torch.bool)
    is_last[:3, 4] = is_terminal[0, 4] = True
    is_first = torch.nn.functional.pad(is_last[:, :-1], (1, 0))
    observation = {"state": torch.randn(sequences, length, 3, generator=generator)}
    action = torch.rand(sequences, length, 2, generator=generator) * 2 - 1
    return Steps(
        observation, torch.randn(sequences, length, generator=generator), is_first, is_last, is_terminal, action
    )


def outcome(agent: agents.Agent, forward: Callable[[Steps], Losses], steps: Steps) -> tuple[Losses, dict[str, Tensor]]:
    """The losses of a forward, with fixed draws, and their gradients by the weights' names."""
    agent.zero_grad()
    torch.manual_seed(7)
    losses = forward(steps)
    losses.total.backward()
    return losses, {name: weight.grad.clone() for name, weight in agent.named_parameters() if weight.grad is not None}


def apart(one: Tensor, other: Tensor) -> float:
    """The distance of two tensors as a share of the first's size."""
    return float((one.float() - other.float()).norm() / one.float().norm().clamp(min=1e-6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="such as dreamerv3 or tdmpc2")
    parser.add_argument("--size", default="1m", help="of the recipe")
    parser.add_argument(
        "--horizon", type=int, help="imagined steps, where there is an actor-critic: fewer compile faster"
    )
    arguments = parser.parse_args()
    config = agents.recipe(arguments.recipe, arguments.size).agent
    if arguments.horizon and isinstance(config.behaviour, ActorCriticConfig):
        shorter = dataclasses.replace(config.behaviour, horizon=arguments.horizon)
        config = dataclasses.replace(config, behaviour=shorter)
    torch._inductor.config.fallback_random = True
    torch.manual_seed(0)
    agent = agents.Agent(config, SPEC)
    with torch.no_grad():  # heads begin at zero, where much would be equal anyhow
        for weight in agent.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    steps = batch()
    plain, compiled = outcome(agent, agent, steps), outcome(agent, torch.compile(agent, fullgraph=True), steps)
    found = {f"loss {name}": apart(value, compiled[0].terms[name]) for name, value in plain[0].terms.items()}
    found |= {f"stored {name}": apart(value, compiled[0].stored[name]) for name, value in plain[0].stored.items()}
    assert plain[1].keys() == compiled[1].keys(), "gradients reach the same weights"
    gradients = {f"gradient of {name}": apart(value, compiled[1][name]) for name, value in plain[1].items()}
    worst = max(gradients, key=lambda name: gradients[name])
    for name, value in (found | {worst: gradients[worst]}).items():
        print(f"{name:>60}   {value:.1e}")
    most = max((found | gradients).values())
    print(f"{arguments.recipe} {arguments.size}, {len(gradients)} gradients: at most {most:.1e} apart.")
    sys.exit(most > MOST)


if __name__ == "__main__":
    main()
