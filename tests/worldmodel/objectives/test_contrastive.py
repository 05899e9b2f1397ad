"""Contrastive objectives beside plain loops, and at their known values."""

import math

import pytest
import torch
from everyone import CAMERA, Place
from gymnasium import spaces
from rows import bare, cosine, counted, pairs
from small import stream

from worldmodel import Representation, Scene, encoders
from worldmodel.data import Spec, Steps
from worldmodel.encoders import ConvolutionalEncoderConfig, VectorEncoderConfig
from worldmodel.objectives import CPCConfig, CURLConfig, MoCoConfig, NTXentConfig, objectives
from worldmodel.objectives.contrastive import allowed

SCOPES = ["batch", "episode", "time"]


def negatives(scope: str, given, n: int) -> list[int]:
    """The rows that n is told from."""
    others = [m for m in counted(given) if m != n]
    if scope == "batch":
        return others
    same_episode = [m for m in others if given.episode[m] == given.episode[n]]
    same_time = [m for m in others if given.time[m] == given.time[n]]
    return [m for m in (same_episode if scope == "episode" else same_time) if (m in same_episode) != (m in same_time)]


def cross_entropy(positive: torch.Tensor, others: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([positive, *others]).exp().sum().log() - positive


@pytest.mark.parametrize("scope", SCOPES)
def test_negatives_are_what_their_scope_says(scope):
    given = pairs(20)
    found = allowed(scope, given.episode, given.time)
    for n in range(20):
        expected = negatives(scope, given, n)
        assert [m for m in counted(given) if found[n, m]] == expected
    assert scope == "batch" or any(len(negatives(scope, given, n)) > 1 for n in range(20))


@pytest.mark.parametrize("scope", SCOPES)
def test_ntxent_finds_the_twin_among_all_others(scope):
    given = pairs(20)
    losses = []
    for a, b in ((given.one, given.other), (given.other, given.one)):
        for n in counted(given):
            others = [cosine(a[n], x[m]) / 0.3 for x in (a, b) for m in negatives(scope, given, n)]
            losses.append(cross_entropy(cosine(a[n], b[n]) / 0.3, others))
    found = bare("ntxent", temperature=0.3, negatives=scope).compare(given)
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())


def test_between_steps_no_step_is_told_from_itself():
    given = pairs()
    given = given._replace(weight=torch.ones(10), time=torch.arange(10) % 4)  # episodes of 4 steps
    losses = []
    for side, other, shift in ((given.one, given.other, 0), (given.other, given.one, 1)):
        for n in range(10):
            described = given.time[n] + shift
            others = []
            for rows, of_rows in ((given.one, 0), (given.other, 1)):
                for m in range(10):
                    itself = given.episode[m] == given.episode[n] and given.time[m] + of_rows == described
                    if m != n and not itself:
                        others.append(cosine(side[n], rows[m]) / 0.1)
            losses.append(cross_entropy(cosine(side[n], other[n]) / 0.1, others))
    found = bare("ntxent", between="steps").compare(given)
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())


def test_ntxent_of_constant_descriptions_is_chance():
    given = pairs()
    constant = given._replace(one=torch.ones(10, 4), other=torch.ones(10, 4), weight=torch.ones(10))
    assert bare("ntxent").compare(constant).loss.item() == pytest.approx(math.log(2 * 10 - 1))


@pytest.mark.parametrize("scope", SCOPES)
def test_moco_finds_the_key_among_those_of_past_batches(scope):
    given, past = pairs(), pairs(seed=1)
    objective = bare("moco", queue=64, negatives=scope)
    first = objective.compare(past)
    if scope != "episode":
        assert first.loss == 0  # nothing to be told from yet
    objective.after_update(first.pending, 0.0)
    losses = []
    for n in counted(given):
        keys = [given.other[m] for m in negatives("episode", given, n)]
        if scope != "episode":
            keys = [past.other[m] for m in counted(past) if scope == "batch" or past.time[m] == given.time[n]]
        losses.append(
            cross_entropy(cosine(given.one[n], given.other[n]) / 0.2, [cosine(given.one[n], k) / 0.2 for k in keys])
        )
    torch.testing.assert_close(objective.compare(given).loss, torch.stack(losses).mean())


def test_mocos_queue_wraps_without_losing_keys_and_its_own_keys_are_not_in_it():
    objective, batches = bare("moco", queue=25), [pairs(seed=n) for n in range(4)]
    for batch in batches:
        found = objective.compare(batch)
        for key in found.pending["key"]:
            assert not (objective.queue == key).all(1).any()
        objective.after_update(found.pending, 0.0)
    keys = torch.cat([objective.compare(batch).pending["key"] for batch in batches])
    held = {tuple(row.tolist()) for row in objective.queue}
    assert held == {tuple(row.tolist()) for row in keys[-25:]}
    assert objective.position == 40 % 25
    objective.after_update({"key": torch.arange(120.0).view(30, 4).double(), "time": torch.arange(30)}, 0.0)
    assert sorted(objective.queue_time.tolist()) == list(range(5, 30))


def test_mocos_head_tells_nothing_of_the_batch():
    objective = objectives.make("moco", options={"projector": (8, 4), "queue": 16}, embed_dim=5)
    rows = torch.randn(6, 5)
    apart = torch.cat([objective.projector(row.unsqueeze(0), torch.ones(1)) for row in rows])
    torch.testing.assert_close(objective.projector(rows, torch.ones(6)), apart)
    hidden = torch.relu(objective.projector.linears[0](rows))
    torch.testing.assert_close(apart, objective.projector.linears[1](hidden))


@pytest.mark.parametrize("scope", SCOPES)
def test_curl_scores_by_a_bilinear_form(scope):
    given, objective = pairs(20), bare("curl", negatives=scope, projector=(4,))
    losses = []
    for n in counted(given):
        scores = {m: given.one[n] @ objective.bilinear @ given.other[m] for m in [n, *negatives(scope, given, n)]}
        losses.append(cross_entropy(scores.pop(n), list(scores.values())))
    torch.testing.assert_close(objective.compare(given).loss, torch.stack(losses).mean())


def test_the_papers_numbers_are_the_defaults():
    assert (MoCoConfig().temperature, MoCoConfig().decay, MoCoConfig().queue) == (0.2, 0.999, 65_536)
    assert (CURLConfig().decay, CURLConfig().projector) == (0.95, (50,))
    assert NTXentConfig().temperature == 0.1 and CPCConfig().horizon == 10


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("with_dynamics", [True, False])
def test_cpc_tells_each_future_from_those_of_its_scope(scope, with_dynamics):
    steps = stream(size=4, length=6)
    place = Place("cpc", with_dynamics, horizon=3, negatives=scope)
    embedding = place.encoder(steps.observation)
    features = (
        place.dynamics.features(place.dynamics.filter(embedding, steps.action, steps.is_first).states)
        if with_dynamics
        else embedding
    )
    expected = plain_cpc(place.objective, steps, features, embedding, scope)
    torch.testing.assert_close(place.loss(steps), expected, rtol=1e-4, atol=1e-5)


def plain_cpc(objective, steps, features, embedding, scope):
    """The loss of four sequences of six steps, up to three ahead."""
    first = steps.is_first
    by_distance = []
    for k in range(1, 4):
        rows = [(b, t) for b in range(4) for t in range(6 - k) if not first[b, t + 1 : t + k + 1].any()]

        def episode(b, t):
            return b, int(first[b, 1 : t + 1].sum())

        losses = []
        for b, t in rows:
            inputs = torch.cat([features[b, t], *(steps.action[b, t + j] for j in range(k))])
            predicted = objective.predictions[k - 1](inputs)
            others = []
            for c, u in rows:
                same_episode, same_time = episode(c, u + k) == episode(b, t + k), u == t
                if (c, u) != (b, t) and {
                    "batch": True,
                    "episode": same_episode and not same_time,
                    "time": same_time and not same_episode,
                }[scope]:
                    others.append(predicted @ objective.description(embedding[c, u + k]))
            losses.append(cross_entropy(predicted @ objective.description(embedding[b, t + k]), others))
        by_distance.append(torch.stack(losses).mean())
    return torch.stack(by_distance).mean()


def test_cpc_describes_what_it_predicts_before_another_sequences_still_part():
    steps = stream(size=4, length=6)
    camera = torch.randint(0, 256, (4, 6, 8, 8, 1), dtype=torch.uint8)
    several = (torch.arange(4) > 1).unsqueeze(1)  # the first two sequences are of one episode
    steps = steps._replace(observation={"camera": camera}, is_first=steps.is_first & several)
    encoder = encoders.make(ConvolutionalEncoderConfig(depth=2), spec=CAMERA)
    options = {"dim": 8, "horizon": 3, "negatives": "episode", "exchange": True}
    objective = objectives.make("cpc", options=options, spec=CAMERA, embed_dim=encoder.embed_dim)
    torch.manual_seed(1)
    (seen,) = objective.views(steps)
    whole = ~steps.is_first[:, 1:].any(1)
    assert not torch.equal(seen["camera"][whole], camera[whole].float()) and whole.sum() > 1
    torch.manual_seed(1)
    loss = objective(Scene(encoder, None, steps)).losses["cpc"]
    features, embedding = encoder(steps.observation), encoder(seen)
    expected = plain_cpc(objective, steps, features, embedding, "episode")
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no image is observed"):
        Place("cpc", False, exchange=True)


def pushed(size: int, seed: int) -> Steps:
    """Points that go where the actions push them, [size, 8]."""
    generator = torch.Generator().manual_seed(seed)
    action = torch.rand(size, 8, 2, generator=generator) * 2 - 1
    before = torch.nn.functional.pad(action[:, :-1].cumsum(1), (0, 0, 1, 0))
    state = torch.randn(size, 1, 2, generator=generator) + before
    first = torch.zeros(size, 8, dtype=torch.bool)
    first[:, 0] = True
    no = torch.zeros_like(first)
    return Steps({"state": state}, torch.zeros(size, 8), first, no, no, action)


def test_cpc_tells_what_is_ahead_by_the_actions_in_between():
    spec = Spec.from_spaces(spaces.Box(-torch.inf, torch.inf, (2,)), spaces.Box(-1, 1, (2,)))
    torch.manual_seed(0)
    encoder = encoders.make(VectorEncoderConfig(units=32), spec=spec)
    options = {"dim": 16, "horizon": 2}
    representation = Representation(
        encoder, [objectives.make("cpc", options=options, spec=spec, embed_dim=encoder.embed_dim)]
    )
    optimiser = torch.optim.Adam(representation.parameters(), 3e-3)
    for update in range(200):
        optimiser.zero_grad()
        representation(representation.scene(pushed(16, update + 1))).losses["cpc"].backward()
        optimiser.step()
    test = pushed(16, 0)
    others = test._replace(action=test.action.roll(1, 0))
    with torch.no_grad():
        right, wrong = (float(representation(representation.scene(s)).losses["cpc"]) for s in (test, others))
    chance = math.log(16 * 7)  # of all steps that have one before them
    assert right < chance - 1.5 and wrong > right + 0.5, (right, wrong, chance)
