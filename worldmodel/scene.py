"""One training batch seen through the model: lazy, and shared between all who learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from worldmodel.data import Steps
from worldmodel.dynamics import Dynamics, Filtered, State, map_state, state_at, where_first
from worldmodel.encoders import Encoder
from worldmodel.nn import ranks

Source = Literal["filtered", "imagined"]


class Scene:
    """A batch of steps [B, T] with everything that the model can say of it, each computed once, when first asked for.

    No loss reaches across ``is_first``, and none reads the action stored just before it: use ``pairs``. Steps whose extra
    ``"valid"`` [B, T] is 0 (padding) count for nothing.
    """

    def __init__(
        self,
        encoder: Encoder,
        dynamics: Dynamics | None,
        steps: Steps,
        before: State | None = None,
        previous_action: Tensor | None = None,
        target_encoder: Encoder | None = None,
    ) -> None:
        """``before`` and ``previous_action`` [B, A]: state and action of the step before the first one, if known.

        ``target_encoder`` is the moving average of the encoder, where an objective asks for one. Without dynamics the
        features are the embeddings.
        """
        self._encoder, self._dynamics, self._target_encoder = encoder, dynamics, target_encoder
        self._before, self._previous_action = before, previous_action
        self.steps = steps
        self._embedding: Tensor | None = None
        self._target_embeddings: list[tuple[Encoder, Tensor]] = []
        self._filtered: Filtered | None = None
        self._imagined: State | None = None
        self._ahead: list[State] = []

    @property
    def length(self) -> int:
        """T, the steps of each sequence."""
        return self.steps.reward.shape[1]

    @property
    def valid(self) -> Tensor:
        """[B, T]: whether a step counts; padding does not."""
        stored = self.steps.extras.get("valid")
        return torch.ones_like(self.steps.is_first) if stored is None else stored.bool()

    @property
    def episode(self) -> Tensor:
        """[B, T]: a number for the episode that each step of the batch belongs to; another in each sequence."""
        crossed = self.steps.is_first[:, 1:].cumsum(1)
        crossed = torch.nn.functional.pad(crossed, (1, 0))
        return crossed + self.length * torch.arange(len(crossed), device=crossed.device).unsqueeze(1)

    def pairs(self, distance: int) -> Tensor:
        """[B, T − k]: whether steps t and t + k belong to one episode, so that t's actions lead to t + k."""
        end = max(self.length - distance, 0)
        together = self.episode[:, distance:] == self.episode[:, :end]
        return together & self.valid[:, distance:] & self.valid[:, :end] if "valid" in self.steps.extras else together

    @property
    def embedding(self) -> Tensor:
        """[B, T, E]"""
        if self._embedding is None:
            self._embedding = self._encoder(self.steps.observation)
        return self._embedding

    def tokens(self, kept: Tensor | None = None) -> Tensor:
        """[B, T, P, D] of an encoder of patches; of those in ``kept`` [B, T, K] alone, the others unseen: [B, T, K, D]."""
        return self._encoder.tokens(self.steps.observation, kept)

    @property
    def target_embedding(self) -> Tensor:
        """[B, T, E] by the target encoder, without gradient."""
        assert self._target_encoder is not None, "no objective of this model has a momentum target"
        for encoder, known in self._target_embeddings:
            if encoder is self._target_encoder:
                return known
        with torch.no_grad():
            embedding = self._target_encoder(self.steps.observation)
        self._target_embeddings.append((self._target_encoder, embedding))
        return embedding

    def aim(self, target_encoder: Encoder | None) -> Scene:
        """The same scene, whose ``target_embedding`` is by another target encoder from now on; the rest stays known."""
        self._target_encoder = target_encoder
        return self

    def seen_as(self, views: Sequence[dict[str, Tensor]], remembering: bool = True) -> Scene:
        """The same steps with other observations, one view below the other: [V · B, T].

        Not ``remembering`` what was before the sequence, where that had been seen as it is.
        """
        count = len(views)

        def repeat(tensor: Tensor) -> Tensor:
            return torch.cat([tensor] * count)

        observation = {name: torch.cat([view[name] for view in views]) for name in self.steps.observation}
        steps = self.steps._replace(observation={}).map(repeat)._replace(observation=observation)
        before = None if self._before is None or not remembering else map_state(repeat, self._before)
        action = None if self._previous_action is None or not remembering else repeat(self._previous_action)
        return Scene(self._encoder, self._dynamics, steps, before, action, self._target_encoder)

    @property
    def filtered(self) -> Filtered:
        """The dynamics' states [B, T], each given all evidence up to it, and the dynamics' own losses."""
        assert self._dynamics is not None, "there is no dynamics model here"
        if self._filtered is None:
            self._filtered = self._dynamics.filter(
                self.embedding, self.steps.action, self.steps.is_first, self._before, self._previous_action
            )
        return self._filtered

    @property
    def imagined(self) -> State:
        """States [B, T]: the first as filtered, the rest imagined along the replayed actions, anew after each reset."""
        assert self._dynamics is not None, "there is no dynamics model here"
        if self._imagined is None:
            filtered = self.filtered.states
            state = state_at(filtered, 0)
            states = [state]
            for t in range(1, self.length):
                state = self._dynamics.step(state, self.steps.action[:, t - 1])
                state = where_first(self.steps.is_first[:, t], state_at(filtered, t), state)
                states.append(state)
            self._imagined = map_state(lambda *tensors: torch.stack(tensors, dim=1), *states)
        return self._imagined

    def features(self, source: Source) -> Tensor:
        """[B, T, F] of the filtered or of the imagined states."""
        if self._dynamics is None:
            return self.embedding
        return self._dynamics.features(self.filtered.states if source == "filtered" else self.imagined)

    def ahead(self, distance: int) -> Tensor:
        """[B, T − k, F]: features imagined k ≥ 1 steps on from the filtered state of each step, along the replayed actions.

        Those that ``pairs(k)`` leaves out were imagined across a reset and mean nothing.
        """
        assert self._dynamics is not None, "there is no dynamics model here"
        while len(self._ahead) < distance:
            k = len(self._ahead)
            state = self._ahead[-1] if k else self.filtered.states
            departures = map_state(lambda x: x[:, :-1].flatten(0, 1), state)
            actions = self.steps.action[:, k:-1]
            after = self._dynamics.step(departures, actions.flatten(0, 1))
            self._ahead.append(map_state(lambda x, like=actions: x.unflatten(0, like.shape[:2]), after))
        return self._dynamics.features(self._ahead[distance - 1])


def weighted_mean(loss: Tensor, mask: Tensor, decay: float = 1.0) -> Tensor:
    """Mean over time of decayᵗ · (mean over the batch where ``mask``): loss [B, T], mask [B, T] → scalar, over all ranks.

    With ``decay`` ρ and a full mask this is Σₜ ρᵗ · mean(lossₜ) / T, the temporal weighting of TD-MPC2, equation 3.
    """
    mask = mask.to(loss.dtype)
    by_step = ranks.total((loss * mask).sum(0)) / ranks.total(mask.sum(0)).clamp(min=1)
    if decay == 1.0:
        return by_step.mean()
    weights = decay ** torch.arange(len(by_step), device=loss.device, dtype=loss.dtype)
    return (by_step * weights).mean()
