"""A model looked at while it imagines: it sees a few steps, and then goes on with its eyes closed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldmodel.believing import believed_states
from worldmodel.data import Steps
from worldmodel.dynamics import Dynamics, State, map_state, state_at
from worldmodel.model import WorldModel
from worldmodel.randomness import seeded
from worldmodel.visualize.files import save_frames, write_gif

if TYPE_CHECKING:
    from worldmodel.representation import Representation

Decode = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Imagination:
    """What happened in B stretches of T steps, and what N times was imagined of it from the ``context`` first steps.

    Up to the context's end the imagined entries are read off the states that the model believed in when it saw the step;
    from there on off states that it imagined along the actions which were really taken.
    """

    truth: dict[str, Tensor]
    """Observations by name, [B, T, *shape]: those that the model, or an inspection, can give back."""
    imagined: dict[str, Tensor]
    """[N, B, T, *shape]"""
    reward: Tensor
    """[B, T]"""
    imagined_reward: Tensor | None
    """[N, B, T]; NaN at the first step, which nothing led to. None for a representation, which has not learned rewards."""
    goes_on: Tensor
    """[B, T]: 0 where the world ended."""
    imagined_continuation: Tensor | None
    """[N, B, T]: probability that the world goes on; None for a model that has not learned it."""
    latent_error: Tensor
    """[B, H]: root mean squared error of the imagined features to those believed with all evidence, over the samples."""
    latent_baseline: Tensor
    """[B, H]: the same of features that stay as they were at the context's end."""
    context: int
    lead: int = 0
    """Steps that it had seen before those."""
    title: str = ""
    inspected: tuple[str, ...] = ()
    """Observations that the model itself cannot give back: an inspection decoder drew them."""

    @property
    def horizon(self) -> int:
        """H, the imagined steps."""
        return self.reward.shape[1] - self.context

    @property
    def samples(self) -> int:
        """N"""
        drawn = [one for one in (self.imagined_reward, *self.imagined.values()) if one is not None]
        return drawn[0].shape[0] if drawn else 1

    def errors(self) -> tuple[Tensor, Tensor]:
        """Error by horizon of what is shown, and of "nothing changes any more": [B, H] each.

        Root mean squared over the entries of an observation and over the samples: images in units of their range; vectors,
        where there is no image, in units of their deviation, the root of the variances' mean over all entries; where nothing
        is decoded, the latent error.
        """
        images = [name for name, value in self.truth.items() if value.ndim == 5]
        shown = images or list(self.truth)
        if not shown:
            return self.latent_error, self.latent_baseline
        if images:
            scale = torch.tensor(255.0)
        else:
            entries = torch.cat([self.truth[name].float().flatten(0, 1) for name in shown], dim=-1)
            scale = entries.var(0).mean().sqrt().clamp(min=1e-6)
        model, baseline = [], []
        for name in shown:
            truth = self.truth[name].float()
            later = truth[:, self.context :]
            stays = truth[:, self.context - 1 : self.context]
            imagined = self.imagined[name][:, :, self.context :]
            model.append(((imagined - later) / scale).square().flatten(3).transpose(0, 1))
            baseline.append(((stays - later) / scale).square().flatten(2))
        return (
            torch.cat(model, dim=-1).mean((1, 3)).sqrt(),
            torch.cat(baseline, dim=-1).mean(-1).sqrt(),
        )

    @property
    def error_unit(self) -> str:
        """What the errors are shares of."""
        if any(value.ndim == 5 for value in self.truth.values()):
            return "shares of the images' range"
        return "in deviations" if self.truth else "latent features"

    @functools.cached_property
    def frames(self) -> list[np.ndarray]:
        """The film: a picture uint8 [height, width, 3] for each step."""
        from worldmodel.visualize.layout import film

        return film(self)

    @functools.cached_property
    def contact_sheet(self) -> np.ndarray:
        """The film on one page: uint8 [height, width, 3]."""
        from worldmodel.visualize.layout import contact_sheet

        return contact_sheet(self)

    def save(self, path: str | Path, fps: float = 10.0) -> None:
        """Write the film as .gif or .mp4, or as a contact sheet, .png.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        save_frames([self.contact_sheet] if path.suffix.lower() == ".png" else self.frames, path, fps)

    def to_tensorboard(self, writer: Any, step: int, tag: str = "imagination", fps: float = 10.0) -> None:
        """Show the film in TensorBoard; ``writer`` is a ``torch.utils.tensorboard.SummaryWriter``."""
        write_gif(writer, tag, self.frames, step, fps)


@torch.no_grad()
def imagine(
    model: Representation,
    steps: Steps,
    *,
    context: int = 5,
    horizon: int | None = None,
    lead: int = 0,
    samples: int = 3,
    inspection: Decode | None = None,
    seed: int = 0,
    title: str = "",
) -> Imagination:
    """Let ``model`` see the first ``context`` steps of each sequence, and imagine the rest along the actions taken there.

    The belief begins with the first step, lead included: the model knows nothing of what came before it. All futures set out
    from one belief, drawn once: how sure the model is of the present is not in their spread. A dynamics without randomness is
    shown once, however many samples are asked for.

    Args:
        model: a world model, or a representation with dynamics, of which neither reward nor continuation is shown.
        steps: [B, T] or [T], each sequence inside one episode, but for its lead.
        context: steps that are seen, at least 1.
        horizon: steps that are imagined; None for all that are left.
        lead: first steps of each sequence, which are seen as well, and not shown.
        samples: futures that are drawn.
        inspection: what gives back observations that the model has no decoder for (see ``inspect``).

    Raises:
        TypeError: something else than steps.
        ValueError: too few steps, an episode that ends inside a sequence, or an encoder alone, which imagines nothing.
    """
    if model.dynamics is None:
        raise ValueError("An encoder alone imagines nothing: give a representation with dynamics, such as rssm.")
    steps = _sequences(steps, context, horizon, lead, samples).to(next(model.parameters()).device)
    samples = samples if model.dynamics.stochastic else 1
    training = model.training
    model.eval()
    with seeded(seed, steps.reward.device):
        believed = map_state(lambda tensor: tensor[:, lead:], believed_states(model, steps))
        steps = steps.select((slice(None), slice(lead, None)))
        batch = steps.reward.shape[0]

        def repeated(tensor: Tensor) -> Tensor:
            return tensor.repeat(samples, *[1] * (tensor.ndim - 1))

        start = map_state(repeated, state_at(believed, context - 1))
        dreamt = _dreamt(model.dynamics, start, repeated(steps.action[:, context - 1 : -1]))
    all_believed = model.dynamics.features(believed).float()
    seen = all_believed[:, :context].expand(samples, batch, context, -1)
    dreamt = dreamt.unflatten(0, (samples, batch))
    features = torch.cat([seen, dreamt], dim=2)
    reward = continuation = None
    if isinstance(model, WorldModel):
        actions = steps.action[:, :-1].expand(samples, -1, -1, -1)
        reward, continuation = model.outcomes(features[:, :, :-1], actions, features[:, :, 1:])
        continuation = continuation if model.continuation is not None else None
    own = model.decode(features)
    decoded = (inspection(features) if inspection is not None else {}) | own
    model.train(training)

    def led_to(value: Tensor | None) -> Tensor | None:
        return None if value is None else torch.nn.functional.pad(value.float(), (1, 0), value=float("nan")).cpu()

    def distance(error: Tensor) -> Tensor:
        return error.square().flatten(3).mean((0, 3)).sqrt().cpu()

    names = [name for name in steps.observation if name in decoded]
    return Imagination(
        truth={name: steps.observation[name].cpu() for name in names},
        imagined={name: decoded[name].float().cpu() for name in names},
        reward=steps.reward.cpu(),
        imagined_reward=led_to(reward),
        goes_on=(~steps.is_terminal).float().cpu(),
        imagined_continuation=led_to(continuation),
        latent_error=distance(dreamt - all_believed[:, context:]),
        latent_baseline=distance((all_believed[:, context - 1 : context] - all_believed[:, context:]).unsqueeze(0)),
        context=context,
        lead=lead,
        title=title,
        inspected=tuple(name for name in names if name not in own),
    )


def _dreamt(dynamics: Dynamics, state: State, actions: Tensor) -> Tensor:
    """Features [B, H, F] of where actions [B, H, A] lead from a state [B, ...], without rewards, which not every model knows."""
    features = []
    for action in actions.unbind(1):
        state = dynamics.step(state, action)
        features.append(dynamics.features(state).float())
    return torch.stack(features, dim=1)


def _sequences(steps: Steps, context: int, horizon: int | None, lead: int, samples: int) -> Steps:
    """The steps [B, lead + context + H] that are looked at; raises as ``imagine`` does."""
    if not isinstance(steps, Steps):
        raise TypeError(
            f"A {type(steps).__name__} is not what is looked at: give worldmodel.data.Steps [B, T], such as "
            "visualize.windows(steps, length=50, count=3)."
        )
    steps = steps._replace(extras={})
    steps = steps.select((None, slice(None))) if steps.reward.ndim == 1 else steps
    available = steps.reward.shape[1] - lead
    horizon = available - context if horizon is None else horizon
    if context < 1 or horizon < 1 or samples < 1 or context + horizon > available:
        raise ValueError(
            f"{available} steps cannot be {context} of context and {horizon} of imagination, {samples} times: "
            f"give at least 1 of each, and together at most {available}."
        )
    steps = steps.select((slice(None), slice(0, lead + context + horizon)))
    if steps.is_first[:, lead + 1 :].any():
        raise ValueError("An episode begins inside a sequence: give stretches of single episodes, as `windows` does.")
    return steps
