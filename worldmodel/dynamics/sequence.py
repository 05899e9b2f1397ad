"""The recurrent step of DreamerV3's world model run over a sequence, as one operator with a backward of its own.

Opaque to compilers, which would unroll it; the step itself is what they compile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worldmodel.dynamics.recurrence import Kept, StepGradients, Weights, activate, step_backward, step_forward

PRODUCTS = ("deterministic_in", "stochastic_in", "mix", "mix_blocks", "gates", "posterior_in", "posterior_out")


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    """The weights with those of matrix products in ``dtype``."""
    return weights._replace(**{name: getattr(weights, name).to(dtype) for name in PRODUCTS})


@functools.cache
def compiled(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True, dynamic=False)


@torch.library.custom_op("worldmodel::recur", mutates_args=())
def recur(
    weights: list[Tensor],
    deterministic: Tensor,
    stochastic: Tensor,
    action: Tensor,
    evidence: Tensor,
    goes_on: Tensor,
    noise: Tensor,
    uniform: float,
    dtype: torch.dtype,
    compile: bool,
) -> list[Tensor]:
    """``step_forward`` over a sequence, time first.

    Args:
        weights: ``Weights``, in float32.
        deterministic: [B, D]; stochastic: [B, Z]: the state before the first step.
        action, evidence, goes_on, noise: as for one step, [T, B, ...].
        dtype: of matrix products.
        compile: whether the step is compiled; the sequence never is, being too long to be unrolled.

    Returns:
        The deterministic states [T, B, D], the stochastic ones [T, B, Z] and the logits [T, B, classes, groups], whose
        gradients go back to ``weights``, states, action and evidence; then the fields of ``Kept``.
    """
    step = compiled(step_forward) if compile else step_forward
    steps = []
    with torch.autocast(action.device.type, enabled=False):
        cast_weights = cast(Weights(*weights), dtype)
        for t in range(len(action)):
            deterministic, stochastic, logits, kept = step(
                cast_weights, deterministic, stochastic, action[t], evidence[t], goes_on[t], noise[t], uniform
            )
            steps.append((deterministic, stochastic, logits, *kept))
        return [torch.stack(tensors) for tensors in zip(*steps, strict=True)]


@recur.register_fake
def _(weights, deterministic, stochastic, action, evidence, goes_on, noise, uniform, dtype, compile):  # type: ignore[no-untyped-def]
    time, batch, hidden = action.shape
    w = Weights(*weights)
    units = deterministic.shape[-1]
    sizes = [(units,), (stochastic.shape[-1],), tuple(noise.shape[2:])]
    sizes += [(hidden,), (hidden,), (units,), tuple(w.gates_bias.shape), (evidence.shape[-1],)]
    return [action.new_empty(time, batch, *size, dtype=torch.float32) for size in sizes]


@torch.library.custom_op("worldmodel::recur_backward", mutates_args=())
def recur_backward(
    weights: list[Tensor],
    before: list[Tensor],
    action: Tensor,
    goes_on: Tensor,
    outputs: list[Tensor],
    gradients: list[Tensor],
    uniform: float,
    dtype: torch.dtype,
    compile: bool,
) -> list[Tensor]:
    """The gradients of ``recur``'s weights, of its first state (two tensors), of its action and of its evidence.

    ``before`` is the first state, ``outputs`` what ``recur`` gave, ``gradients`` those of its first three outputs.
    """
    step = compiled(step_backward) if compile else step_backward
    with torch.autocast(action.device.type, enabled=False):
        w = cast(Weights(*weights), dtype)
        states, samples, logits, *kept = outputs
        # What each step began with: the state before it, or nothing.
        began = torch.cat([before[0][None], states[:-1]]) * goes_on
        began_sample = torch.cat([before[1][None], samples[:-1]]) * goes_on
        to_state, to_sample = torch.zeros_like(before[0]), torch.zeros_like(before[1])
        steps: list[StepGradients] = []
        for t in reversed(range(len(action))):
            one = step(
                w,
                Kept(*(tensor[t] for tensor in kept)),
                began[t],
                logits[t],
                goes_on[t],
                gradients[0][t] + to_state,
                gradients[1][t] + to_sample,
                gradients[2][t],
                uniform,
            )
            to_state, to_sample = one.deterministic, one.stochastic
            steps.append(one)
        steps.reverse()
        of = Kept(*(torch.stack(tensors) for tensors in zip(*(one.kept for one in steps), strict=True)))
        of_action, of_logits = (torch.stack([getattr(one, name) for one in steps]) for name in ("action", "logits"))
        gains = [torch.stack(tensors).sum(0) for tensors in zip(*(one.gains for one in steps), strict=True)]
        seen = Kept(*kept)
        inputs = torch.cat(
            [
                activate(seen.deterministic_hidden, w.deterministic_in_gain),
                activate(seen.stochastic_hidden, w.stochastic_in_gain),
                action,
            ],
            dim=-1,
        )
        result = Weights(
            _outer(began, of.deterministic_hidden, dtype),
            of.deterministic_hidden.sum((0, 1)),
            gains[0],
            _outer(began_sample, of.stochastic_hidden, dtype),
            of.stochastic_hidden.sum((0, 1)),
            gains[1],
            _outer(inputs, of.mixed, dtype),
            _block_outer(began, of.mixed, w.mix_blocks),
            of.mixed.sum((0, 1)),
            gains[2],
            _block_outer(activate(seen.mixed, w.mix_gain), of.gates.flatten(2), w.gates),
            of.gates.sum((0, 1)),
            _outer(states, of.posterior_hidden, dtype),
            gains[3],
            _outer(activate(seen.posterior_hidden, w.posterior_in_gain), of_logits, dtype),
            of_logits.sum((0, 1)),
        )
        return [*result, to_state, to_sample, of_action, of.posterior_hidden.clone()]


def _outer(x: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ over steps and rows of x ⊗ gradient: [T, B, I], [T, B, O] → float32 [I, O]."""
    return (x.flatten(0, 1).to(dtype).t() @ gradient.flatten(0, 1).to(dtype)).float()


def _block_outer(x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """The same block by block: [T, B, G · I], [T, B, G · O], for a weight [G, I, O]."""
    blocks = [y.flatten(0, 1).to(weight.dtype).unflatten(-1, (weight.shape[0], -1)) for y in (x, gradient)]
    return torch.bmm(blocks[0].permute(1, 2, 0), blocks[1].transpose(0, 1)).float()


@recur_backward.register_fake
def _(weights, before, action, goes_on, outputs, gradients, uniform, dtype, compile):  # type: ignore[no-untyped-def]
    like = [*weights, *before, action, outputs[-1]]
    return [torch.empty_like(tensor, dtype=torch.float32) for tensor in like]


def _keep(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    weights, deterministic, stochastic, action, _, goes_on, _, *ctx.options = inputs
    ctx.save_for_backward(*weights, deterministic, stochastic, action, goes_on, *output)


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple:
    count = len(Weights._fields)
    weights, (deterministic, stochastic, action, goes_on), outputs = (
        list(ctx.saved_tensors[:count]),
        ctx.saved_tensors[count : count + 4],
        list(ctx.saved_tensors[count + 4 :]),
    )
    given = [g if g is not None else torch.zeros_like(o) for g, o in zip(gradients[:3], outputs[:3], strict=True)]
    *of_weights, of_state, of_sample, of_action, of_evidence = recur_backward(
        weights, [deterministic, stochastic], action, goes_on, outputs, given, *ctx.options
    )
    return of_weights, of_state, of_sample, of_action, of_evidence, None, None, None, None, None


recur.register_autograd(_backward, setup_context=_keep)
