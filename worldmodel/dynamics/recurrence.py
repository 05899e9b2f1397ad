"""The recurrent step of DreamerV3's world model, and its backward; ``sequence.py`` runs them over time.

Written out because it is where a recurrent model spends its time: within the sequence only what depends on the last
state is computed, and every weight's gradient is one matrix product over all steps, accumulated in float32, where
automatic differentiation would read and write all weights once a step.

Sizes: D deterministic units, Z = groups · classes stochastic ones, H hidden, G blocks. The classes of a categorical are
the dimension before the last: a CPU takes softmax and argmax over a strided dimension several times faster than over a
short contiguous one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from worldmodel.nn.rms import EPS


class Weights(NamedTuple):
    """Of one recurrent step. Products are ``inputs @ weight``; gains belong to RMSNorms."""

    deterministic_in: Tensor
    """[D, H]"""
    deterministic_in_bias: Tensor
    deterministic_in_gain: Tensor
    stochastic_in: Tensor
    """[Z, H]"""
    stochastic_in_bias: Tensor
    stochastic_in_gain: Tensor
    mix: Tensor
    """[3 H, D]: what every block sees of the inputs."""
    mix_blocks: Tensor
    """[G, D / G, D / G]: what each block sees of itself."""
    mix_bias: Tensor
    mix_gain: Tensor
    gates: Tensor
    """[G, D / G, 3 D / G]: reset, candidate and update of each block."""
    gates_bias: Tensor
    """[G, 3 D / G]"""
    posterior_in: Tensor
    """[D, H]: of the posterior's hidden layer, the part that reads the deterministic state."""
    posterior_in_gain: Tensor
    posterior_out: Tensor
    """[H, Z]"""
    posterior_out_bias: Tensor


class Kept(NamedTuple):
    """What one step leaves for its backward: all before norms and activations."""

    deterministic_hidden: Tensor
    """[B, H]"""
    stochastic_hidden: Tensor
    """[B, H]"""
    mixed: Tensor
    """[B, D]"""
    gates: Tensor
    """[B, G, 3 D / G]"""
    posterior_hidden: Tensor
    """[B, H]"""


def activate(x: Tensor, gain: Tensor) -> Tensor:
    """SiLU(RMSNorm(x)): float32 [..., U] → float32 [..., U]."""
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * gain
    return y * torch.sigmoid(y)


def activate_backward(x: Tensor, gain: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x [B, U] and of the gain [U], given the activation's [B, U]."""
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)
    normed = x * scale
    y = normed * gain
    sigmoid = torch.sigmoid(y)
    gradient = gradient * sigmoid * (1 + y * (1 - sigmoid))
    inner = gradient * gain
    return scale * (inner - normed * (inner * normed).mean(-1, keepdim=True)), (gradient * normed).sum(0)


def tanh(x: Tensor) -> Tensor:
    """By one exponential, which compilers vectorise better than the library's function."""
    return 2 * torch.sigmoid(2 * x) - 1


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, I] @ weight [I, O] in the weight's type → float32."""
    return (x.to(weight.dtype) @ weight).float()


def block_product(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, G · I], weight [G, I, O] → float32 [B, G, O]."""
    blocks = x.to(weight.dtype).unflatten(-1, (weight.shape[0], -1)).transpose(0, 1)
    return torch.bmm(blocks, weight).transpose(0, 1).float()


def probabilities(logits: Tensor, uniform: float) -> Tensor:
    """Softmax over classes, mixed with ``uniform`` of the uniform distribution, in float32: [..., classes, groups]."""
    return (1 - uniform) * logits.float().softmax(-2) + uniform / logits.shape[-2]


def draw(probability: Tensor, noise: Tensor) -> Tensor:
    """One-hot draws: probabilities and exponential noise [..., classes, groups] → [..., classes, groups].

    The argmax of p / Exp(1) is distributed as p, as in the Gumbel-max trick without its logarithms.
    """
    choice = (probability / noise).argmax(-2, keepdim=True)
    return (torch.arange(probability.shape[-2], device=noise.device).unsqueeze(-1) == choice).float()


def advance(
    weights: Weights, deterministic: Tensor, stochastic: Tensor, action: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The deterministic state one step on: [B, D], [B, Z], the action's hidden units [B, H] → [B, D], what is kept."""
    w = weights
    deterministic_hidden = product(deterministic, w.deterministic_in) + w.deterministic_in_bias
    stochastic_hidden = product(stochastic, w.stochastic_in) + w.stochastic_in_bias
    inputs = torch.cat(
        [
            activate(deterministic_hidden, w.deterministic_in_gain),
            activate(stochastic_hidden, w.stochastic_in_gain),
            action,
        ],
        dim=-1,
    )
    mixed = product(inputs, w.mix) + block_product(deterministic, w.mix_blocks).flatten(1) + w.mix_bias
    gates = block_product(activate(mixed, w.mix_gain), w.gates) + w.gates_bias
    reset, candidate, update = (part.flatten(1) for part in gates.chunk(3, dim=-1))
    update = torch.sigmoid(update - 1)
    after = update * tanh(torch.sigmoid(reset) * candidate) + (1 - update) * deterministic
    return after, (deterministic_hidden, stochastic_hidden, mixed, gates)


def step_forward(
    weights: Weights,
    deterministic: Tensor,
    stochastic: Tensor,
    action: Tensor,
    evidence: Tensor,
    goes_on: Tensor,
    noise: Tensor,
    uniform: float,
) -> tuple[Tensor, Tensor, Tensor, Kept]:
    """One step with evidence.

    Args:
        deterministic: [B, D]; stochastic: [B, Z]: the last state.
        action: [B, H], the hidden units of the last action.
        evidence: [B, H], what the posterior's hidden layer reads of the embedding, its bias included.
        goes_on: [B, 1], 0 where the sequence is reset here, else 1.
        noise: [B, classes, groups], exponential.

    Returns:
        The new deterministic [B, D] and stochastic [B, Z] state, the posterior's logits [B, classes, groups], and what
        the backward needs.
    """
    deterministic, stochastic = deterministic * goes_on, stochastic * goes_on
    after, hidden = advance(weights, deterministic, stochastic, action)
    posterior_hidden = product(after, weights.posterior_in) + evidence
    logits = product(activate(posterior_hidden, weights.posterior_in_gain), weights.posterior_out)
    logits = (logits + weights.posterior_out_bias).view_as(noise)
    sample = draw(probabilities(logits, uniform), noise).flatten(1)
    return after, sample, logits, Kept(*hidden, posterior_hidden)


class StepGradients(NamedTuple):
    """Of one step: of its inputs, then of what its weights gave."""

    deterministic: Tensor
    """[B, D], of the state before."""
    stochastic: Tensor
    """[B, Z], of the state before."""
    action: Tensor
    """[B, H]"""
    logits: Tensor
    """[B, Z], all that reaches them."""
    kept: Kept
    gains: tuple[Tensor, Tensor, Tensor, Tensor]
    """Of the four gains, in the order of ``Weights``."""


def step_backward(
    weights: Weights,
    kept: Kept,
    deterministic: Tensor,
    logits: Tensor,
    goes_on: Tensor,
    gradient_after: Tensor,
    gradient_sample: Tensor,
    gradient_logits: Tensor,
    uniform: float,
) -> StepGradients:
    """The gradients of ``step_forward``; the draw passes its gradient straight through to the probabilities.

    ``deterministic`` [B, D] is the state that the step began with, zero where the sequence was reset.
    """
    w = weights
    softmax = logits.softmax(-2)
    through = (1 - uniform) * gradient_sample.view_as(logits)
    gradient_logits = gradient_logits + softmax * (through - (softmax * through).sum(-2, keepdim=True))
    gradient_logits = gradient_logits.flatten(1)
    gradient = product(gradient_logits, w.posterior_out.t())
    evidence, posterior_gain = activate_backward(kept.posterior_hidden, w.posterior_in_gain, gradient)
    gradient_after = gradient_after + product(evidence, w.posterior_in.t())

    reset, candidate, update = (part.flatten(1) for part in kept.gates.chunk(3, dim=-1))
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    proposed = tanh(reset * candidate)
    inner = gradient_after * update * (1 - proposed.square())
    parts = (
        inner * candidate * reset * (1 - reset),
        inner * reset,
        gradient_after * (proposed - deterministic) * update * (1 - update),
    )
    blocks = kept.gates.shape[1]
    gates = torch.cat([part.unflatten(-1, (blocks, -1)) for part in parts], dim=2)
    gradient = block_product(gates.flatten(1), w.gates.transpose(1, 2)).flatten(1)
    mixed, mix_gain = activate_backward(kept.mixed, w.mix_gain, gradient)
    inputs = product(mixed, w.mix.t())
    one, two, action = inputs.chunk(3, dim=-1)
    deterministic_hidden, deterministic_gain = activate_backward(
        kept.deterministic_hidden, w.deterministic_in_gain, one
    )
    stochastic_hidden, stochastic_gain = activate_backward(kept.stochastic_hidden, w.stochastic_in_gain, two)
    gradient_before = (
        gradient_after * (1 - update)
        + block_product(mixed, w.mix_blocks.transpose(1, 2)).flatten(1)
        + product(deterministic_hidden, w.deterministic_in.t())
    )
    return StepGradients(
        gradient_before * goes_on,
        product(stochastic_hidden, w.stochastic_in.t()) * goes_on,
        action,
        gradient_logits,
        Kept(deterministic_hidden, stochastic_hidden, mixed, gates, evidence),
        (deterministic_gain, stochastic_gain, mix_gain, posterior_gain),
    )
