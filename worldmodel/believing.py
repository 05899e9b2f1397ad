"""What a model believes of recorded steps, with all the evidence of their episode: as where it acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.data.episodes import episodes
from worldmodel.dynamics import State, map_state, state_at
from worldmodel.randomness import seeded
from worldmodel.scene import Scene

if TYPE_CHECKING:
    from worldmodel.representation import Representation

AT_ONCE = 64  # steps of each sequence whose pictures are in memory together


def believed_states(model: Representation, steps: Steps) -> State:
    """The states [B, T, ...] of sequences [B, T], each believed with all evidence before it; on the model's device."""
    device = next(model.parameters()).device
    state, action, found = None, None, []
    for first in range(0, steps.reward.shape[1], AT_ONCE):
        part = steps.select((slice(None), slice(first, first + AT_ONCE))).to(device)
        found.append(Scene(model.encoder, model.dynamics, part, state, action).filtered.states)
        state, action = state_at(found[-1], -1), part.action[:, -1]
    return map_state(lambda *parts: torch.cat(parts, dim=1), *found)


def believed_features(model: Representation, steps: Steps, sequences: int = 16) -> Tensor:
    """The features [N, F] of a recording [N], as ``believed_recording`` has the states."""
    states = believed_recording(model, steps, sequences)
    assert model.dynamics is not None, "states are a dynamics model's"
    return model.dynamics.features(states).float()


@torch.no_grad()
def believed_recording(model: Representation, steps: Steps, sequences: int = 16) -> State:
    """The states [N, ...] of a recording [N], each believed with the evidence of its episode; on the model's device.

    Nothing is drawn from the random state of the process. ``sequences`` episodes are filtered at a time.
    """
    device, recording = next(model.parameters()).device, steps._replace(extras={})
    begin, end = episodes(steps.is_first)
    training = model.training
    model.eval()
    found = []
    with seeded(0, device):
        for first, last in zip(begin.split(sequences), end.split(sequences), strict=True):
            time = torch.arange(int((last - first).max()))
            # Shorter episodes end with their last step, again and again.
            places = torch.minimum(first.unsqueeze(1) + time, last.unsqueeze(1) - 1)
            real = (time < (last - first).unsqueeze(1)).to(device)
            states = believed_states(model, recording.select(places))
            found.append(map_state(lambda x, real=real: x[real], states))
    model.train(training)
    return map_state(lambda *parts: torch.cat(parts), *found)
