"""Objectives over trajectories beside plain loops, and what they may see."""

import pytest
import torch
import torch.nn.functional as F
from everyone import Place
from small import DISCRETE, stream

from worldmodel.objectives import sequences

STEPS = stream(size=6, length=6)


def episode(steps, b, t):
    return int(steps.is_first[b, 1 : t + 1].sum())


def executed(steps, b, t):
    return t < 5 and not steps.is_first[b, t + 1]


def test_masked_trajectory_is_told_what_is_hidden_from_what_is_not(monkeypatch):
    place, drawn = Place("masked-trajectory", False), []
    real = sequences.mask_steps
    monkeypatch.setattr(sequences, "mask_steps", lambda *a: drawn.append(real(*a)) or drawn[-1])
    losses = place(STEPS).losses
    objective, (no_embedding, no_action) = place.objective, drawn
    embedding = place.encoder(STEPS.observation)
    target = F.layer_norm(place.target_encoder(STEPS.observation), (8,))
    of_embedding, of_action = [], []
    for b in range(6):
        tokens, owners = [], []
        for t in range(6):
            place_of = torch.stack(
                [f(torch.tensor(t / 10_000 ** (k / 8))) for k in (0, 2, 4, 6) for f in (torch.sin, torch.cos)]
            )
            seen = objective.hidden[0] if no_embedding[b, t] else objective.observed(embedding[b, t])
            acts = executed(STEPS, b, t) and not no_action[b, t]
            acted = objective.acted(STEPS.action[b, t]) if acts else objective.hidden[1]
            tokens += [seen + objective.kind[0] + place_of, acted + objective.kind[1] + place_of]
            owners += [episode(STEPS, b, t)] * 2
        for number in set(owners):  # each episode by itself
            index = [i for i, owner in enumerate(owners) if owner == number]
            out = objective.transformer(torch.stack([tokens[i] for i in index]).unsqueeze(0))[0]
            for i, told in zip(index, out, strict=True):
                t = i // 2
                if i % 2 == 0 and no_embedding[b, t]:
                    of_embedding.append((objective.embedding_head(told) - target[b, t]).square().mean())
                if i % 2 == 1 and no_action[b, t] and executed(STEPS, b, t):
                    of_action.append((objective.action_head(told) - STEPS.action[b, t]).square().mean())
    torch.testing.assert_close(losses["masked-trajectory"], torch.stack(of_embedding).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["masked-trajectory_action"], torch.stack(of_action).mean(), rtol=1e-4, atol=1e-5)


def test_hidden_discrete_actions_are_told_as_categories():
    place = Place("masked-trajectory", False)
    place.objective.action = DISCRETE.action
    told, action = torch.randn(3, 4), F.one_hot(torch.tensor([0, 3, 1]), 4).float()
    expected = F.cross_entropy(told, action.argmax(-1), reduction="none")
    torch.testing.assert_close(place.objective.action_error(told, action), expected)


@pytest.mark.parametrize("with_dynamics", [True, False])
def test_tokens_are_the_nearest_codes_of_the_next_observation(with_dynamics):
    place = Place("tokens", with_dynamics)
    place.after_update(place(STEPS).pending)
    outcome, objective = place(STEPS), place.objective
    state = STEPS.observation["state"]
    squashed = torch.sign(state) * torch.log1p(state.abs())
    mean, variance = squashed.flatten(0, 1).mean(0), squashed.flatten(0, 1).var(0, unbiased=False)
    past, losses, right = objective.past(place.scene(STEPS)), [], 0
    for b in range(6):
        for t in range(5):
            if STEPS.is_first[b, t + 1]:
                continue
            normal = (squashed[b, t + 1] - mean) / (variance + 1e-4).sqrt()
            logits = objective.head(past[b, t]).view(2, 5)
            for group in range(2):
                projected = normal @ objective.projections[:, 3 * group : 3 * group + 3]
                far = [(projected / projected.norm() - code).norm() for code in objective.codebooks[group]]
                code = int(torch.stack(far).argmin())
                losses.append(-logits[group].log_softmax(0)[code])
                right += int(logits[group].argmax() == code)
    torch.testing.assert_close(outcome.losses["tokens"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    assert outcome.metrics["tokens_right"].item() == pytest.approx(right / len(losses))


def test_the_first_batch_sets_the_tokens_statistics_and_later_ones_move_them():
    place = Place("tokens", False, statistics_rate=0.25)
    first = place(STEPS).pending
    place.after_update(first)
    assert torch.equal(place.objective.mean, first["mean"])
    place.after_update({name: value + 4 for name, value in first.items()})
    torch.testing.assert_close(place.objective.variance, first["variance"] + 1)


FORWARD = ("tokens", "next-latent", "next-frame", "spr", "byol-explore", "cpc")
"""What tells later steps by earlier ones; `masked-trajectory`, `denoising` and the like look both ways, as their papers do."""


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("with_dynamics", [True, False])
def test_the_future_changes_nothing_that_the_past_tells(name, with_dynamics):
    place = Place(name, with_dynamics)
    state = STEPS.observation["state"].clone().requires_grad_()
    action = STEPS.action.clone().requires_grad_()
    scene = place.scene(STEPS._replace(observation={"state": state}, action=action))
    if name == "tokens":
        told = place.objective.past(scene)[:, 2]
    elif name == "cpc":
        inputs = torch.cat([scene.features("filtered")[:, 2], action[:, 2]], dim=-1)
        told = place.objective.predictions[0](inputs)
    elif name == "next-frame":
        told = place.objective.ahead(scene)[:, 2]
    else:
        ahead = scene.ahead(1) if with_dynamics else next(iter(place.objective.imagined(scene, 1)))
        told = place.objective.predictor(ahead[:, 2])
    told.square().sum().backward()
    assert state.grad[:, :3].any() and not state.grad[:, 3:].any()
    assert action.grad[:, 2].any() and not action.grad[:, 3:].any()
