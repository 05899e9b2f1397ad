import pytest
import torch
from gymnasium import spaces

from worldmodel import Representation, RepresentationConfig
from worldmodel.data import Spec, Steps
from worldmodel.diagnostics import Encoded, encode, targets_of, what_is_known
from worldmodel.dynamics import RSSMConfig, state_at
from worldmodel.encoders import SeveralEncoderConfig, VectorEncoderConfig

SPEC = Spec.from_spaces(
    spaces.Dict(
        seen=spaces.Box(-1, 1, (3,)),
        place=spaces.Box(-1, 1, (2,)),
        still=spaces.Box(-1, 1, (1,)),
        kind=spaces.Discrete(3),
    ),
    spaces.Box(-1, 1, (2,)),
)


def episode(length: int) -> Steps:
    first = torch.arange(length) == 0
    values = {"seen": torch.randn(length, 3), "place": torch.randn(length, 2), "still": torch.ones(length, 1)}
    no = torch.zeros_like(first)
    return Steps(values, torch.zeros(length), first, no, no, torch.randn(length, 2))


def representation(dynamics=None) -> Representation:
    encoder = SeveralEncoderConfig(vectors=VectorEncoderConfig(units=8))
    seen = Spec({"seen": SPEC.observation["seen"]}, SPEC.action)
    return Representation.from_config(RepresentationConfig((), encoder, dynamics), seen).eval()


def test_numbers_that_are_not_observed_can_be_asked_for():
    assert targets_of(SPEC, ["seen"]) == ["place", "still"], "categories are no numbers"


def test_every_step_is_seen_from_the_beginning_of_its_own_episode():
    one, episodes = representation(RSSMConfig(16, 8, 4, 3, 2)), [episode(5), episode(3), episode(7)]
    torch.manual_seed(0)
    found = encode(one, episodes, ["seen"], ["place"], at_once=2)
    assert found.levels["embedding"].shape == (15, 8) and found.levels["feature"].shape == (
        15,
        one.dynamics.feature_dim,
    )
    whole = torch.cat([e.observation["seen"] for e in episodes])
    torch.testing.assert_close(found.levels["embedding"], one.encoder({"seen": whole}))
    assert found.episode.tolist() == [0] * 5 + [1] * 3 + [2] * 7
    assert torch.equal(found.targets["place"], torch.cat([e.observation["place"] for e in episodes]))
    # Deterministic states do not depend on what was drawn before the episode: the first step of each is the reset's.
    starts = [one.scene(e.map(lambda x: x.unsqueeze(0))).filtered.states for e in episodes]
    units = one.dynamics.deterministic_dim
    for place, states in zip((0, 5, 8), starts, strict=True):
        torch.testing.assert_close(found.levels["feature"][place, -units:], state_at(states, 0).deterministic[0])


def test_what_lies_in_the_code_is_found_and_what_does_not_is_not():
    place, other = torch.randn(300, 2), torch.randn(300, 1)
    codes = torch.cat([place @ torch.randn(2, 4), torch.randn(300, 2)], dim=1)
    still = torch.ones(300, 1)
    both = Encoded({"embedding": codes}, {"place": place, "other": other, "still": still}, torch.arange(300) // 10)
    train, test = (
        Encoded(*({k: v[part] for k, v in d.items()} for d in both[:2]), both.episode[part])
        for part in (slice(200), slice(200, 300))
    )
    found = {(k.target, k.reader, k.labels): k.r2 for k in what_is_known(train, test, [10, 200])}
    assert found["place", "linear", 200] > 0.999 and found["place", "linear", 10] > 0.9
    assert found["place", "linear", 200] > found["place", "neighbours", 200] > 0.3
    assert found["other", "linear", 200] < 0.1
    assert not [key for key in found if key[0] == "still"], "what never changes is not asked for"
    with pytest.raises(ValueError, match="300 labels are more than the 200 steps"):
        what_is_known(train, test, [300])
