"""The Gaussian recurrent model run over a sequence, as one operator with a backward of its own.

Opaque to compilers, which would unroll it for minutes; what does not recur is computed outside, for all steps at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Weights(NamedTuple):
    """What recurs, as ``nn.Linear`` and ``nn.GRUCell`` keep it."""

    sample_in: Tensor
    """[H, Z], of the last sample into the hidden layer before the GRU."""
    input_gates: Tensor
    """[3 D, H]"""
    state_gates: Tensor
    """[3 D, D]"""
    input_bias: Tensor
    """[3 D]"""
    state_bias: Tensor
    """[3 D]"""
    state_in: Tensor
    """[H, D], of the deterministic state into the posterior's hidden layer."""
    out: Tensor
    """[2 Z, H]"""
    out_bias: Tensor
    """[2 Z]"""


class Kept(NamedTuple):
    """What the backward needs of each step: [B, …]."""

    inputs: Tensor
    """Before the GRU's hidden layer's ELU, H."""
    reset: Tensor
    """Gate, D."""
    update: Tensor
    """Gate, D."""
    candidate: Tensor
    """New state, D."""
    state_candidate: Tensor
    """The old state's part of the candidate, before the reset gate, D."""
    hidden: Tensor
    """Before the posterior's hidden layer's ELU, H."""
    raw: Tensor
    """Before the standard deviation's softplus, Z."""


def multiply(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """x [..., I] times the transpose of weight [O, I] in ``dtype``: float32 [..., O]."""
    return (x.to(dtype) @ weight.to(dtype).t()).float()


def gru(
    hidden: Tensor,
    state: Tensor,
    input_gates: Tensor,
    state_gates: Tensor,
    input_bias: Tensor,
    state_bias: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step of ``nn.GRUCell`` from hidden layer [B, H] and float32 state [B, D], with weights as it keeps them.

    The products are in ``dtype``, the state stays float32: bfloat16 would round away what is remembered for long, which moves
    by less than its last digit at each step.

    Returns:
        The next state, the reset and update gates, the candidate, and the old state's part of the candidate: [B, D] each.
    """
    from_input = (multiply(hidden, input_gates, dtype) + input_bias).chunk(3, dim=-1)
    from_state = (multiply(state, state_gates, dtype) + state_bias).chunk(3, dim=-1)
    reset, update = torch.sigmoid(from_input[0] + from_state[0]), torch.sigmoid(from_input[1] + from_state[1])
    candidate = torch.tanh(from_input[2] + reset * from_state[2])
    return torch.lerp(candidate, state, update), reset, update, candidate, from_state[2]


def step_forward(
    w: Weights,
    state: Tensor,
    sample: Tensor,
    action: Tensor,
    evidence: Tensor,
    noise: Tensor,
    least: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Kept]:
    """One step from state [B, D] and sample [B, Z], which are zero after a reset.

    Args:
        action: [B, H], the action's part of the hidden layer before the GRU, bias included.
        evidence: [B, H], the embedding's part of the posterior's hidden layer, bias included.
        noise: [B, Z], standard normal.

    Returns:
        The next state, sample, mean and standard deviation, and what the backward needs.
    """
    inputs = action + multiply(sample, w.sample_in, dtype)
    gates = w.input_gates, w.state_gates, w.input_bias, w.state_bias
    state, reset, update, candidate, state_candidate = gru(F.elu(inputs), state, *gates, dtype)
    hidden = evidence + multiply(state, w.state_in, dtype)
    mean, raw = (multiply(F.elu(hidden), w.out, dtype) + w.out_bias).chunk(2, dim=-1)
    std = F.softplus(raw) + least
    return state, mean + std * noise, mean, std, Kept(inputs, reset, update, candidate, state_candidate, hidden, raw)


@torch.library.custom_op("worldmodel::gaussian_recur", mutates_args=())
def recur(
    weights: list[Tensor],
    state: Tensor,
    sample: Tensor,
    action: Tensor,
    evidence: Tensor,
    goes_on: Tensor,
    noise: Tensor,
    least: float,
    dtype: torch.dtype,
) -> list[Tensor]:
    """``step_forward`` over a sequence, time first; ``goes_on`` [T, B, 1] is 0 where a step begins anew.

    Returns:
        States [T, B, D], samples, means and deviations [T, B, Z], whose gradients go back to weights, first state, action and
        evidence; then the fields of ``Kept``.
    """
    steps = []
    with torch.autocast(action.device.type, enabled=False):
        w = Weights(*weights)
        for t in range(len(action)):
            one = step_forward(
                w, state * goes_on[t], sample * goes_on[t], action[t], evidence[t], noise[t], least, dtype
            )
            state, sample, *_ = one
            steps.append((*one[:4], *one[4]))
        return [torch.stack(tensors) for tensors in zip(*steps, strict=True)]


@recur.register_fake
def _(weights, state, sample, action, evidence, goes_on, noise, least, dtype):  # type: ignore[no-untyped-def]
    (time, batch, hidden), units, size = action.shape, state.shape[-1], sample.shape[-1]
    sizes = [units, size, size, size, hidden, units, units, units, units, hidden, size]
    return [action.new_empty(time, batch, one, dtype=torch.float32) for one in sizes]


@torch.library.custom_op("worldmodel::gaussian_recur_backward", mutates_args=())
def recur_backward(
    weights: list[Tensor],
    before: list[Tensor],
    goes_on: Tensor,
    noise: Tensor,
    outputs: list[Tensor],
    gradients: list[Tensor],
    dtype: torch.dtype,
) -> list[Tensor]:
    """The gradients of ``recur``'s weights, of its first state and sample, of its action and of its evidence.

    ``before`` is the first state and sample, ``outputs`` what ``recur`` gave, ``gradients`` those of its first four outputs.
    """
    w = Weights(*weights)
    states, samples, _, _, *rest = outputs
    kept = Kept(*rest)
    began = torch.cat([before[0][None], states[:-1]]) * goes_on
    began_sample = torch.cat([before[1][None], samples[:-1]]) * goes_on
    to_state, to_sample = torch.zeros_like(before[0]), torch.zeros_like(before[1])
    # All that does not recur, for all steps at once.
    inputs_slope, hidden_slope = _elu_slope(kept.inputs), _elu_slope(kept.hidden)
    raw_slope = torch.sigmoid(kept.raw)
    reset_slope = kept.state_candidate * kept.reset * (1 - kept.reset)
    update_slope = (began - kept.candidate) * kept.update * (1 - kept.update)
    candidate_slope = (1 - kept.update) * (1 - kept.candidate.square())
    steps = []
    for t in reversed(range(len(goes_on))):
        of_sample = gradients[1][t] + to_sample
        of_mean, of_std = gradients[2][t] + of_sample, gradients[3][t] + of_sample * noise[t]
        of_out = torch.cat([of_mean, of_std * raw_slope[t]], dim=-1)
        of_hidden = multiply(of_out, w.out.t(), dtype) * hidden_slope[t]
        of_state = gradients[0][t] + to_state + multiply(of_hidden, w.state_in.t(), dtype)
        of_candidate = of_state * candidate_slope[t]
        gates = torch.cat([of_candidate * reset_slope[t], of_state * update_slope[t]], dim=-1)
        of_input_gates = torch.cat([gates, of_candidate], dim=-1)
        of_state_gates = torch.cat([gates, of_candidate * kept.reset[t]], dim=-1)
        of_inputs = multiply(of_input_gates, w.input_gates.t(), dtype) * inputs_slope[t]
        to_state = goes_on[t] * (of_state * kept.update[t] + multiply(of_state_gates, w.state_gates.t(), dtype))
        to_sample = goes_on[t] * multiply(of_inputs, w.sample_in.t(), dtype)
        steps.append((of_inputs, of_input_gates, of_state_gates, of_hidden, of_out))
    steps.reverse()
    of_inputs, of_input_gates, of_state_gates, of_hidden, of_out = (torch.stack(x) for x in zip(*steps, strict=True))
    return [
        _outer(of_inputs, began_sample, dtype),
        _outer(of_input_gates, F.elu(kept.inputs), dtype),
        _outer(of_state_gates, began, dtype),
        of_input_gates.sum((0, 1)),
        of_state_gates.sum((0, 1)),
        _outer(of_hidden, states, dtype),
        _outer(of_out, F.elu(kept.hidden), dtype),
        of_out.sum((0, 1)),
        to_state,
        to_sample,
        of_inputs,
        of_hidden,
    ]


@recur_backward.register_fake
def _(weights, before, goes_on, noise, outputs, gradients, dtype):  # type: ignore[no-untyped-def]
    kept = Kept(*outputs[4:])
    like = [*weights, *before, kept.inputs, kept.hidden]
    return [torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device) for tensor in like]


def _elu_slope(x: Tensor) -> Tensor:
    return torch.where(x > 0, torch.ones_like(x), x.clamp(max=0).exp())


def _outer(gradient: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ over steps and rows of gradient ⊗ x: [T, B, O], [T, B, I] → float32 [O, I]."""
    return (gradient.flatten(0, 1).to(dtype).t() @ x.flatten(0, 1).to(dtype)).float()


def _keep(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    weights, state, sample, _, _, goes_on, noise, _, ctx.dtype = inputs
    ctx.save_for_backward(*weights, state, sample, goes_on, noise, *output)


def _backward(ctx: Any, gradients: list[Tensor]) -> tuple:
    count = len(Weights._fields)
    weights, (state, sample, goes_on, noise) = list(ctx.saved_tensors[:count]), ctx.saved_tensors[count : count + 4]
    outputs = list(ctx.saved_tensors[count + 4 :])
    given = [g if g is not None else torch.zeros_like(o) for g, o in zip(gradients[:4], outputs[:4], strict=True)]
    *of_weights, of_state, of_sample, of_action, of_evidence = recur_backward(
        weights, [state, sample], goes_on, noise, outputs, given, ctx.dtype
    )
    return of_weights, of_state, of_sample, of_action, of_evidence, None, None, None, None


recur.register_autograd(_backward, setup_context=_keep)
