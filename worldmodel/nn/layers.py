"""Hidden layers and the networks made of them; TD-MPC2's are Linear → LayerNorm → Mish (arXiv 2310.16828, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.nn.rms import RMSLinear, initialise_by_fan_in

LayerKind = Literal["layernorm-mish", "rmsnorm-silu"]
"""What a hidden layer is: TD-MPC2's, with its small normal weights, or DreamerV3's, with weights drawn by fan-in."""


def mish(x: Tensor) -> Tensor:
    """x · tanh(softplus(x)) (arXiv 1908.08681), of any shape.

    Under compilation it is written with a single exponential, n/(n + 2) with n = eˣ(eˣ + 2), which compilers
    vectorise: on a CPU this is six times faster than ``torch.nn.functional.mish``.
    """
    if not torch.compiler.is_compiling():
        return F.mish(x)
    value = x.float()
    exponential = value.clamp(max=20.0).exp()
    n = exponential * (exponential + 2)
    return (value * (n / (n + 2))).to(x.dtype)


def dropout(x: Tensor, probability: float) -> Tensor:
    """Zero entries of x with ``probability`` (to the nearest 1/65536) and scale up the rest; x of any shape.

    On a CPU one 64-bit random number serves four entries, which takes a third of the time of
    ``torch.nn.functional.dropout`` there, and a tenth of what a compiled graph makes of that.
    """
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    return torch.where(keep_mask(x.detach(), probability), x / (1 - probability), torch.zeros((), dtype=x.dtype))


@torch.library.custom_op("worldmodel::keep_mask", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def keep_mask(x: Tensor, probability: float) -> Tensor:
    """A boolean mask of x's shape on the CPU, False with ``probability``.

    Opaque to compilers, which would draw one by one; of x, and not of its shape, because they draw once for equal arguments.
    """
    entries = x.numel()
    bits = torch.empty((entries + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:entries] >= round(probability * 65536) - 32768).view(x.shape)


@keep_mask.register_fake
def _(x: Tensor, probability: float) -> Tensor:
    return torch.empty(x.shape, dtype=torch.bool)


class SimNorm(nn.Module):
    """Softmax within groups of ``group_size`` units: [..., D] → [..., D] in float32, each group sums to 1.

    Unit i belongs to group i mod (D / group_size), so that the softmax runs over a strided dimension, which a CPU does
    five times faster than over contiguous groups; which units form a group makes no difference to what is learned.
    Source: arXiv 2204.00616; TD-MPC2, equation 4.
    """

    def __init__(self, group_size: int = 8) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:
        return x.float().unflatten(-1, (self.group_size, -1)).softmax(-2).flatten(-2)


class NormedLinear(nn.Module):
    """Linear → LayerNorm → activation (Mish unless given): [..., inputs] → [..., outputs]."""

    def __init__(self, inputs: int, outputs: int, activation: Callable[[Tensor], Tensor] = mish) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(x)))


def initialise(module: nn.Module) -> None:
    """TD-MPC2's weights, for ``module.apply``: Linear from a normal of std 0.02 truncated at ±2, biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def hidden_layers(inputs: int, units: int, layers: int, kind: LayerKind) -> nn.Sequential:
    """``layers`` hidden layers of ``units``, with the weights of their kind.

    Raises:
        ValueError: an unknown kind.
    """
    sizes = list(pairwise([inputs] + [units] * layers))
    if kind == "layernorm-mish":
        return nn.Sequential(*(NormedLinear(a, b) for a, b in sizes)).apply(initialise)
    if kind == "rmsnorm-silu":
        return nn.Sequential(*(RMSLinear(a, b) for a, b in sizes)).apply(initialise_by_fan_in)
    raise ValueError(f"There is no layer {kind!r}: choose layernorm-mish or rmsnorm-silu.")


def readout(inputs: int, units: int, layers: int, outputs: int, kind: LayerKind, scale: float = 1.0) -> nn.Sequential:
    """Hidden layers and a plain Linear whose first weights are multiplied by ``scale``: [..., inputs] → [..., outputs]."""
    hidden = hidden_layers(inputs, units, layers, kind)
    last = nn.Linear(units if layers else inputs, outputs)
    last.apply(initialise if kind == "layernorm-mish" else initialise_by_fan_in)
    with torch.no_grad():
        last.weight.mul_(scale)
    return nn.Sequential(*hidden, last)
