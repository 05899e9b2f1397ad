"""What all joint embeddings share: descriptions seen against their batch, or against their own episode."""

import pytest
import torch
from dot import SPEC, recorded
from everyone import Place
from rows import counted, pairs
from small import stream
from torch import nn

import worldmodel
from worldmodel import Representation, encoders, objectives
from worldmodel.data import Steps
from worldmodel.data.augmentation import AugmentationConfig
from worldmodel.diagnostics import linear_probe
from worldmodel.objectives.joint import centred


def test_the_mean_of_each_episode_is_taken_off_over_the_rows_that_count():
    given = pairs(12)
    found = centred(given, 12)
    for side in ("one", "other"):
        rows, result = getattr(given, side), getattr(found, side)
        for n in range(12):
            of_its_episode = [m for m in counted(given) if given.episode[m] == given.episode[n]]
            torch.testing.assert_close(result[n], rows[n] - sum(rows[m] for m in of_its_episode) / len(of_its_episode))


def plain_projector(projector, rows: torch.Tensor, counts: list[bool]) -> torch.Tensor:
    """Layer by layer, with the statistics of the rows that count."""
    x = rows
    for number, linear in enumerate(projector.linears):
        x = x @ linear.weight.t() + (0 if linear.bias is None else linear.bias)
        if number + 1 < len(projector.linears):
            mean, variance = x[counts].mean(0), x[counts].var(0, unbiased=False)
            norm = projector.norms[number]
            x = ((x - mean) / (variance + 1e-5).sqrt() * norm.gain + norm.bias).clamp(min=0)
    return x


@pytest.mark.parametrize("between", ["steps", "features", "imagined"])
def test_pairs_and_their_projections_are_those_of_a_plain_loop(between):
    options = {"steps": {"distance": 2}, "features": {}, "imagined": {"source": "imagined"}}[between]
    place = Place("vicreg", between != "steps", between=between.replace("imagined", "features"), **options)
    steps = stream(size=4, length=7)
    first = torch.zeros(4, 7, dtype=torch.bool)
    first[:, 0] = first[1, 3] = first[2, 6] = True
    steps = steps._replace(is_first=first)
    scene, objective = place.scene(steps), place.objective
    (found,) = objective.projected(scene)
    embedding, ahead = place.encoder(steps.observation), 2 if between == "steps" else 0
    one, other, counts = [], [], []
    for b in range(4):
        for t in range(7 - ahead):
            counts.append(not any(first[b, u] for u in range(t + 1, t + ahead + 1)))
            here = embedding if between == "steps" else scene.features(options.get("source", "filtered"))
            one.append(here[b, t])
            other.append(embedding[b, t + ahead])
    assert found.weight.tolist() == [float(one) for one in counts] and (all(counts) or ahead)
    second = objective.projector if between == "steps" else objective.other_projector
    expected = [
        plain_projector(projector, torch.stack(rows), counts)
        for projector, rows in ((objective.projector, one), (second, other))
    ]
    torch.testing.assert_close(found.one, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.other, expected[1], rtol=1e-4, atol=1e-5)


class Seen(nn.Module):
    """The embedding is what is observed."""

    def forward(self, observation):
        return observation["state"]


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg", "wmse", "sigreg", "simsiam"])
def test_what_stays_the_same_throughout_an_episode_is_worth_nothing_within_episodes(name):
    first = torch.zeros(6, 10, dtype=torch.bool)
    first[:, 0] = first[2, 4] = first[3, 7] = True
    no, state = torch.zeros_like(first), torch.randn(6, 10, 4)
    steps = Steps({"state": state}, torch.zeros(6, 10), first, no, no, torch.zeros(6, 10, 1))
    episode = worldmodel.Scene(Seen(), None, steps).episode
    constant = torch.randn(60, 4)[episode]  # for each episode another, the one after a reset inside a sequence as well
    losses = {}
    for within in ("episode", "batch"):
        options = {"between": "steps", "within": within, "projector": ()}
        for offset in (0, constant):
            torch.manual_seed(0)
            one = objectives.make(name, embed_dim=4, options=options)
            scene = worldmodel.Scene(Seen(), None, steps._replace(observation={"state": state + offset}))
            losses.setdefault(within, []).append(sum(one(scene).losses.values()))
    torch.testing.assert_close(*losses["episode"], rtol=1e-4, atol=1e-5)
    assert (losses["batch"][0] - losses["batch"][1]).abs() > 1e-3


def noisy(episodes: int, seed: int):
    """The moving dot behind noise that is another in each episode, and stays there throughout."""
    steps, place = recorded(episodes, 16, seed)
    noise = 50 * torch.randn(episodes, 1, 16, 16, 1, generator=torch.Generator().manual_seed(seed))
    image = (steps.observation["image"] + noise).clamp(0, 255).to(torch.uint8)
    return steps._replace(observation={"image": image}), place


def test_within_episodes_the_state_is_learned_where_otherwise_the_episode_is():
    scores = {}
    train, test = noisy(60, seed=1), noisy(30, seed=2)
    for within in ("batch", "episode"):
        torch.manual_seed(0)
        encoder = encoders.make("convolutional", options={"depth": 4, "kernel": 3}, spec=SPEC)
        options = {"between": "steps", "within": within, "projector": (128, 64)}
        objective = objectives.make("barlow-twins", options=options, spec=SPEC, embed_dim=encoder.embed_dim)
        one, steps = Representation(encoder, [objective]), noisy(200, seed=0)[0]
        optimiser = torch.optim.Adam(one.parameters(), 1e-3)
        for _ in range(100):
            outcome = one(one.scene(steps.select(torch.randint(0, 200, (16,)))))
            optimiser.zero_grad()
            sum(outcome.losses.values()).backward()
            optimiser.step()
        with torch.no_grad():
            rows = [(encoder(s.observation).flatten(0, 1), place.flatten(0, 1)) for s, place in (train, test)]
        scores[within] = linear_probe(*rows).mean
    assert scores["episode"] > scores["batch"] + 0.1, scores


@pytest.mark.parametrize(
    ("options", "read_by"),
    [({"between": "features", "augmentation": AugmentationConfig(noise=0.1)}, "views"), ({"distance": 2}, "steps"),
     ({"between": "steps", "source": "imagined"}, "features")],
)  # fmt: skip
def test_an_option_that_the_pairing_does_not_read_is_refused(options, read_by):
    with pytest.raises(ValueError, match=f"does not read.*between={read_by}"):
        objectives.make("vicreg", options=options, embed_dim=8, feature_dim=8)


def test_what_is_paired_reads_its_own_options():
    def made(name="vicreg", feature_dim=None, **options):
        return objectives.make(name, options=options, embed_dim=8, feature_dim=feature_dim)

    assert [made(between="steps", distance=n, feature_dim=8).least_length for n in (1, 2)] == [2, 3]
    steps = recorded(2, 3, seed=0)[0]
    still, noisy = (AugmentationConfig(shift=0, crop=1.0, noise=noise) for noise in (0.0, 0.1))
    for augmentation, alike in ((still, True), (noisy, False)):
        one, other = made(augmentation=augmentation).views(steps)
        assert torch.equal(one["image"], other["image"]) == alike
    assert made("curl", feature_dim=8).between == "features"
    losses = [Place("vicreg", source=source).loss(stream(size=5, length=6)) for source in ("filtered", "imagined")]
    assert not torch.equal(*losses)
