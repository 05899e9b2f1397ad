"""Draws for recurrent models, as operators that compilers neither open nor merge.

Each takes a tensor of the step that it is drawn for. Without one, all calls of one shape look alike to a compiler, which knows
its own random operators alone to differ from call to call: it would draw once and give that to every imagined step.
"""

from __future__ import annotations

import torch
from torch import Tensor

RANDOM = (torch.Tag.nondeterministic_seeded,)


@torch.library.custom_op("worldmodel::exponential_noise", mutates_args=(), tags=RANDOM)
def exponential_noise(of: Tensor, steps: int, shape: list[int]) -> Tensor:
    """Standard exponential draws [steps, *shape], one step after the other: a sequence gets what its steps would get.

    Args:
        of: what these draws alone are for; its device is theirs.
    """
    if of.device.type != "cpu":
        return torch.stack([torch.empty(shape, device=of.device).exponential_() for _ in range(steps)])
    # A third of exponential_'s time. A uniform draw may be 0, never 1: the quotients p / noise stay finite.
    return torch.stack([torch.rand(shape) for _ in range(steps)]).log_().neg_()


@torch.library.custom_op("worldmodel::standard_noise", mutates_args=(), tags=RANDOM)
def standard_noise(of: Tensor, steps: int, shape: list[int]) -> Tensor:
    """The same of standard normal draws."""
    return torch.stack([torch.randn(shape, device=of.device) for _ in range(steps)])


@exponential_noise.register_fake
@standard_noise.register_fake
def _(of, steps, shape):  # type: ignore[no-untyped-def]
    return torch.empty(steps, *shape, device=of.device)
