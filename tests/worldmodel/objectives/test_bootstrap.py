"""Bootstrapping and latent self-prediction beside plain loops, and at their known values."""

import pytest
import torch
from everyone import Place
from rows import bare, cosine, counted, pairs
from small import CONTINUOUS, stream

from worldmodel import objectives
from worldmodel.data.augmentation import AugmentationConfig
from worldmodel.objectives import BYOLConfig, BYOLExploreConfig, SimSiamConfig, SPRConfig


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_the_predictors_guess_is_compared_by_cosine(name):
    given, objective = pairs(), bare(name)
    guessed = objective.predictor(given.one, given.weight)
    mean = sum(cosine(guessed[n], given.other[n]) for n in counted(given)) / len(counted(given))
    expected = {"byol": 2 - 2 * mean, "simsiam": -mean}[name]
    torch.testing.assert_close(objective.compare(given).loss, expected)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_both_views_guess_the_other(name):
    steps = stream(size=6)
    place = Place(name, False)
    torch.manual_seed(1)
    scene = place.scene(steps)
    first, second = place.objective.projected(scene)
    assert not torch.equal(first.one, second.one) and not torch.equal(first.other, second.other)
    mean = (place.objective.compare(first).loss + place.objective.compare(second).loss) / 2
    torch.testing.assert_close(place.loss(steps), mean)


def test_simsiams_gradient_flows_through_the_guess_alone():
    steps, place = stream(size=6), Place("simsiam", False)
    scene = place.scene(steps)
    first, second = place.objective.projected(scene)
    assert first.one.requires_grad and second.one.requires_grad
    assert not first.other.requires_grad and not second.other.requires_grad
    torch.testing.assert_close(first.one, second.other), torch.testing.assert_close(second.one, first.other)


def test_byols_target_follows_more_and_more_slowly():
    objective = bare("byol", decay=0.9)
    rates = [objective.rate(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert rates == pytest.approx([0.1, 0.1 * (1 + 2**-0.5) / 2, 0.05, 0.0])
    place = Place("byol", False, decay=0.9)
    before = [p.clone() for p in place.objective.other_projector.parameters()]
    online = list(place.objective.projector.parameters())
    place.after_update({})
    for old, new, target in zip(before, place.objective.other_projector.parameters(), online, strict=True):
        torch.testing.assert_close(new, 0.95 * old + 0.05 * target)


def plain_self_prediction(place, steps, horizon):
    """Mean over k of the mean over pairs of 2 − 2 cos, one by one."""
    size, length = steps.reward.shape
    target = place.target_encoder(steps.observation)
    by_distance = []
    for k in range(1, horizon + 1):
        losses = []
        for b in range(size):
            for t in range(length - k):
                if steps.is_first[b, t + 1 : t + k + 1].any():
                    continue
                latent = ahead(place, steps, b, t, k)
                losses.append(2 - 2 * cosine(place.objective.predictor(latent), target[b, t + k]))
        by_distance.append(torch.stack(losses).mean())
    return torch.stack(by_distance).mean()


def ahead(place, steps, b, t, k):
    """What is imagined k steps on from step t of sequence b."""
    embedding = place.encoder({"state": steps.observation["state"][b : b + 1]})
    actions = steps.action[b : b + 1]
    if place.dynamics is not None:
        states = place.dynamics.filter(embedding, actions, steps.is_first[b : b + 1]).states
        state = type(states)(*(x[:, t] for x in states))
        for j in range(k):
            state = place.dynamics.step(state, actions[:, t + j])
        return place.dynamics.features(state)[0]
    if getattr(place.objective, "change", None) is not None:
        latent = embedding[0, t]
        for j in range(k):
            latent = latent + place.objective.change(torch.cat([latent, actions[0, t + j]]))
        return latent
    began = max(u for u in range(t + 1) if u == 0 or steps.is_first[b, u])
    belief = torch.zeros(1, 8)
    for u in range(began, t + 1):
        known = u > began  # the action before an episode's first step was another's
        before = actions[0, u - 1] if known else torch.zeros(2)
        belief = place.objective.closed(torch.cat([embedding[0, u], before]).unsqueeze(0), belief)
    for j in range(k):
        belief = place.objective.open(actions[:, t + j], belief)
    return belief[0]


@pytest.mark.parametrize("name", ["spr", "byol-explore"])
@pytest.mark.parametrize("with_dynamics", [True, False])
def test_self_prediction_is_that_of_plain_loops(name, with_dynamics):
    steps = stream(size=5, length=6)
    place = Place(name, with_dynamics)
    expected = place.objective.config.weight * plain_self_prediction(place, steps, 3)
    torch.testing.assert_close(place.loss(steps), expected, rtol=1e-4, atol=1e-5)


def test_a_perfect_prediction_gives_nothing():
    steps = stream(size=5, length=6)
    place = Place("spr", False)
    with torch.no_grad():
        torch.nn.Module.__setattr__(place.objective, "predictor", torch.nn.Identity())
        for parameter in place.objective.change.parameters():
            parameter.zero_()
    still = steps._replace(observation={"state": torch.ones_like(steps.observation["state"])})
    place.target_encoder = place.encoder
    assert place.loss(still).item() == pytest.approx(0.0, abs=1e-6)


def test_the_papers_numbers_are_the_defaults():
    assert (BYOLConfig().decay, BYOLConfig().projector, BYOLConfig().predictor) == (0.99, (4096, 256), 4096)
    assert (SimSiamConfig().projector, SimSiamConfig().predictor) == ((2048, 2048, 2048), 512)
    assert (SPRConfig().horizon, SPRConfig().weight) == (5, 5.0)


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (SPRConfig(), 0.01),
        (SPRConfig(augmentation=AugmentationConfig()), 1.0),  # the target is the encoder as it is, as in SPR
        (SPRConfig(augmentation=AugmentationConfig(), decay=0.9), 0.1),
        (BYOLExploreConfig(augmentation=AugmentationConfig()), 0.01),
    ],
)
def test_spr_keeps_no_target_of_its_own_beside_an_augmentation(config, rate):
    one = objectives.make(config, spec=CONTINUOUS, embed_dim=8, feature_dim=None)
    assert one.target_rate == pytest.approx(rate)


@pytest.mark.parametrize("with_dynamics", [True, False])
def test_the_next_latent_is_told_as_normalised(with_dynamics):
    steps = stream(size=5, length=6)
    place = Place("next-latent", with_dynamics)
    target = torch.nn.functional.layer_norm(place.target_encoder(steps.observation), (8,))
    losses = []
    for b in range(5):
        for t in range(5):
            if not steps.is_first[b, t + 1]:
                told = place.objective.predictor(ahead(place, steps, b, t, 1))
                losses.append((told - target[b, t + 1]).square().mean())
    torch.testing.assert_close(place.loss(steps), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("with_dynamics", [True, False])
def test_the_next_frame_is_decoded_from_what_is_imagined(with_dynamics):
    steps = stream(size=5, length=6)
    place = Place("next-frame", with_dynamics)
    losses = []
    for b in range(5):
        for t in range(5):
            if not steps.is_first[b, t + 1]:
                arrival = {"state": steps.observation["state"][b, t + 1]}
                losses.append(place.objective.decoder.loss(ahead(place, steps, b, t, 1), arrival))
    torch.testing.assert_close(place.loss(steps), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
