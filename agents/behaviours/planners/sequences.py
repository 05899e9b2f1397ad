"""Search distributions over action sequences, for continuous and for discrete actions, with one interface."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from worldmodel.data import ActionSpec
from worldmodel.heads import mode_one_hot, sample_one_hot

Parameters = tuple[Tensor, ...]
"""Tensors [N, H, A]; the first alone says what is likeliest."""


class Sequences(Protocol):
    """A distribution over action sequences, independent for each of N environments and H steps."""

    def start(self, batch_size: int, device: torch.device) -> Parameters:
        """Parameters to search from where nothing is known."""
        ...

    def again(self, plan: Tensor, repeat: bool = False) -> Parameters:
        """Parameters as wide as at the start, around the first of the last search's parameters [N, H, A], a step later.

        The last step is as at the start, or with ``repeat`` as the one before it.
        """
        ...

    def sample(self, parameters: Parameters, count: int) -> Tensor:
        """[N, count, H, A]"""
        ...

    def anything(self, batch_size: int, count: int, device: torch.device) -> Tensor:
        """[N, count, H, A], uniformly from all that there are."""
        ...

    def fit(self, elites: Tensor, weights: Tensor) -> Parameters:
        """Parameters from elites [N, E, H, A] and their weights [N, E], which sum to 1."""
        ...

    def likeliest(self, parameters: Parameters) -> Tensor:
        """[N, H, A], a valid sequence."""
        ...

    def vary(self, action: Tensor, parameters: Parameters) -> Tensor:
        """The chosen first action [N, A], varied as widely as the search still was."""
        ...

    def disturb(self, action: Tensor, amount: float) -> Tensor:
        """The chosen action [N, A] with noise of this standard deviation, or with this share of random choices."""
        ...


class GaussianSequences:
    """Gaussians clipped to ±1: parameters are mean and standard deviation.

    ``colour`` β makes the noise of a sequence coloured, with a power spectrum falling as 1 / frequencyᵝ (iCEM, arXiv
    2008.06389); 0 is white.
    """

    def __init__(
        self, dim: int, horizon: int, *, start_std: float, min_std: float, max_std: float, colour: float = 0.0
    ) -> None:
        self.dim, self.horizon, self.colour = dim, horizon, colour
        self.start_std, self.min_std, self.max_std = start_std, min_std, max_std

    def start(self, batch_size: int, device: torch.device) -> Parameters:
        mean = torch.zeros(batch_size, self.horizon, self.dim, device=device)
        return mean, torch.full_like(mean, self.start_std)

    def again(self, plan: Tensor, repeat: bool = False) -> Parameters:
        mean = torch.cat([plan[:, 1:], plan[:, -1:] if repeat else torch.zeros_like(plan[:, :1])], dim=1)
        return mean, torch.full_like(mean, self.start_std)

    def sample(self, parameters: Parameters, count: int) -> Tensor:
        mean, std = parameters
        noise = coloured_noise((mean.shape[0], count, *mean.shape[1:]), self.colour, mean.device)
        return (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1, 1)

    def anything(self, batch_size: int, count: int, device: torch.device) -> Tensor:
        return torch.rand(batch_size, count, self.horizon, self.dim, device=device) * 2 - 1

    def fit(self, elites: Tensor, weights: Tensor) -> Parameters:
        weights = weights[:, :, None, None]
        mean = (weights * elites).sum(1)
        std = (weights * (elites - mean.unsqueeze(1)).square()).sum(1).sqrt()
        return mean, std.clamp(self.min_std, self.max_std)

    def likeliest(self, parameters: Parameters) -> Tensor:
        return parameters[0].clamp(-1, 1)

    def vary(self, action: Tensor, parameters: Parameters) -> Tensor:
        return (action + parameters[1][:, 0] * torch.randn_like(action)).clamp(-1, 1)

    def disturb(self, action: Tensor, amount: float) -> Tensor:
        return (action + amount * torch.randn_like(action)).clamp(-1, 1)


class CategoricalSequences:
    """Categoricals: the parameter is the probabilities of all categories, never quite 0.

    ``uniform`` is the share of the uniform distribution in them, which plays the least standard deviation's part.
    """

    def __init__(self, categories: tuple[int, ...], horizon: int, *, uniform: float) -> None:
        self.categories, self.horizon, self.uniform = categories, horizon, uniform

    def even(self, device: torch.device) -> Tensor:
        """The uniform distribution's probabilities [A], made where they are needed: no copy between devices."""
        return torch.cat([torch.full((count,), 1 / count, device=device) for count in self.categories])

    def start(self, batch_size: int, device: torch.device) -> Parameters:
        return (self.even(device).expand(batch_size, self.horizon, -1).clone(),)

    def again(self, plan: Tensor, repeat: bool = False) -> Parameters:
        # Half the last plan and half uniform: as wide a search as the Gaussian's, whose deviation starts anew.
        even = self.even(plan.device)
        shifted = torch.cat([plan[:, 1:], plan[:, -1:] if repeat else even.expand_as(plan[:, :1])], dim=1)
        return (0.5 * shifted + 0.5 * even,)

    def sample(self, parameters: Parameters, count: int) -> Tensor:
        return sample_one_hot(parameters[0].unsqueeze(1).expand(-1, count, -1, -1), self.categories)

    def anything(self, batch_size: int, count: int, device: torch.device) -> Tensor:
        return self.sample(self.start(batch_size, device), count)

    def fit(self, elites: Tensor, weights: Tensor) -> Parameters:
        frequency = (weights[:, :, None, None] * elites).sum(1)
        return ((1 - self.uniform) * frequency + self.uniform * self.even(elites.device),)

    def likeliest(self, parameters: Parameters) -> Tensor:
        return mode_one_hot(parameters[0], self.categories)

    def vary(self, action: Tensor, parameters: Parameters) -> Tensor:
        return sample_one_hot(parameters[0][:, 0], self.categories)

    def disturb(self, action: Tensor, amount: float) -> Tensor:
        return sample_one_hot((1 - amount) * action + amount * self.even(action.device), self.categories)


def sequences_for(
    action: ActionSpec,
    horizon: int,
    *,
    start_std: float,
    min_std: float,
    max_std: float,
    uniform: float,
    colour: float = 0.0,
) -> Sequences:
    """The search distribution for the kind of action; ``uniform`` is for discrete ones, the other numbers for continuous."""
    if action.discrete:
        return CategoricalSequences(action.categories, horizon, uniform=uniform)
    return GaussianSequences(action.dim, horizon, start_std=start_std, min_std=min_std, max_std=max_std, colour=colour)


def coloured_noise(shape: tuple[int, ...], colour: float, device: torch.device) -> Tensor:
    """Normal noise [..., H, A] whose spectrum along H falls as 1 / frequencyᵝ with β = ``colour``.

    Of unit variance but for its mean over H, which comes on top: so is the noise that iCEM's code takes (Timmer and Koenig 1995,
    as in the package colorednoise).
    """
    horizon = shape[-2]
    if colour == 0 or horizon == 1:
        return torch.randn(*shape, device=device)
    frequency = torch.fft.rfftfreq(horizon, device=device).clamp(min=1 / horizon)
    size = frequency.pow(-colour / 2).unsqueeze(-1)
    real = torch.randn(*shape[:-2], len(frequency), shape[-1], device=device)
    imaginary = torch.randn(*shape[:-2], len(frequency), shape[-1], device=device)
    # The lowest frequency, and in even lengths the highest, are real: with the variance of both parts.
    single = torch.zeros_like(size)
    single[0] = 1.0
    if horizon % 2 == 0:
        single[-1] = 1.0
    real, imaginary = real * torch.where(single > 0, 2**0.5, 1.0), imaginary * (1 - single)
    noise = torch.fft.irfft(torch.complex(real * size, imaginary * size), n=horizon, dim=-2)
    # Σ over both halves of the spectrum, but for its mean, of the squared sizes, as irfft scales them.
    variance = 2 * (size.square() * torch.where(single > 0, 1.0, 2.0))[1:].sum() / horizon**2
    return noise / variance.sqrt()
