"""Open-loop errors, against a plain loop over sequences and horizons."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from worldmodel import WorldModel, WorldModelConfig
from worldmodel.data import Spec, Steps
from worldmodel.diagnostics import latent_open_loop, open_loop
from worldmodel.dynamics import SimNormDynamicsConfig
from worldmodel.encoders import VectorEncoderConfig


def make(batch: int = 6, length: int = 5) -> tuple[WorldModel, Steps]:
    torch.manual_seed(0)
    spec = Spec.from_spaces(spaces.Box(-np.inf, np.inf, (3,)), spaces.Box(-1, 1, (2,)))
    config = WorldModelConfig(encoder=VectorEncoderConfig(units=16), dynamics=SimNormDynamicsConfig(16, 16))
    no = torch.zeros(batch, length, dtype=torch.bool)
    first = no.clone()
    first[1, 2] = True  # what lies beyond a reset is not what was imagined
    observation = {"state": torch.randn(batch, length, 3)}
    steps = Steps(observation, torch.randn(batch, length), first, no, no, torch.rand(batch, length, 2) * 2 - 1)
    model = WorldModel(config, spec)
    torch.nn.init.normal_(model.reward.network[-1].weight)
    return model, steps


def test_errors_are_those_of_a_plain_loop() -> None:
    model, steps = make()
    found = open_loop(model, steps)
    pairs = [(b, k) for b in range(6) for k in range(1, 5) if not (b == 1 and k >= 2)]
    mean_reward = np.mean([float(steps.reward[b, k]) for b, k in pairs])
    with torch.no_grad():
        for k in range(1, 5):
            reward, baseline, latent, still = [], [], [], []
            for b in [b for b, other in pairs if other == k]:
                encode = [model.encoder({"state": steps.observation["state"][b : b + 1, t]}) for t in (0, k)]
                start, end = (model.dynamics.posterior(embed)[0] for embed in encode)
                state = model.dynamics.initial(1)._replace(latent=start[None])
                for t in range(k):
                    state, imagined, _ = model.arrive(state, steps.action[b : b + 1, t])
                reward.append((float(imagined) - float(steps.reward[b, k])) ** 2)
                baseline.append((mean_reward - float(steps.reward[b, k])) ** 2)
                latent.append(float((state.latent[0] - end).square().mean()))
                still.append(float((start - end).square().mean()))
            for values, name in ((reward, "reward_error"), (baseline, "reward_baseline")):
                assert np.isclose(np.mean(values) ** 0.5, float(getattr(found, name)[k - 1]), rtol=1e-4)
            for values, name in ((latent, "latent_error"), (still, "latent_baseline")):
                assert np.isclose(np.mean(values) ** 0.5, float(getattr(found, name)[k - 1]), rtol=1e-4)


def test_what_nothing_was_compared_at_is_no_perfect_prediction() -> None:
    model, steps = make()
    steps.is_first[:, 3] = True
    for errors in open_loop(model, steps):
        assert errors[:2].isfinite().all() and errors[2:].isnan().all()


def test_of_a_representation_the_latent_errors_from_every_step_are_those_of_a_plain_loop() -> None:
    model, steps = make()
    episodes = [steps.select(b) for b in range(3)]  # the second is cut by a reset
    found = latent_open_loop(model, episodes, horizon=6)
    assert found.error[4:].isnan().all(), "of five steps, four lie ahead"
    with torch.no_grad():
        for k in range(1, 5):
            guesses, still = [], []
            for b in range(3):
                latents = model.dynamics.posterior(model.encoder({"state": steps.observation["state"][b]}))
                for t in range(5 - k):
                    if b == 1 and t < 2 <= t + k:
                        continue
                    state = model.dynamics.initial(1)._replace(latent=latents[t][None])
                    for j in range(k):
                        state = model.dynamics.step(state, steps.action[b : b + 1, t + j])
                    guesses.append(float((state.latent[0] - latents[t + k]).square().mean()))
                    still.append(float((latents[t] - latents[t + k]).square().mean()))
            assert np.isclose(np.mean(guesses) ** 0.5, float(found.error[k - 1]), rtol=1e-4)
            assert np.isclose(np.mean(still) ** 0.5, float(found.baseline[k - 1]), rtol=1e-4)
