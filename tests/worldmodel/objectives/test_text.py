import pytest
import torch
from everyone import Place
from rows import cosine
from small import CONTINUOUS, stream

from worldmodel import objectives

STEPS = stream(size=12, length=6)


@pytest.mark.parametrize("with_dynamics", [True, False])
def test_a_trajectory_finds_its_text_among_those_that_say_something_else(with_dynamics):
    place = Place("text-pairs", with_dynamics)
    objective, scene = place.objective, place.scene(STEPS)
    observation = scene.steps.observation
    blank = observation | {"mission": torch.zeros_like(observation["mission"])}
    features = scene.seen_as([blank]).features("filtered")
    texts, trajectories = [], []
    for b in range(12):
        end = next((t for t in range(1, 6) if STEPS.is_first[b, t]), 6)
        trajectories.append(objective.of_trajectory(features[b, :end].mean(0)))
        texts.append(objective.of_text(objective.reader({"mission": observation["mission"][b, :1]})[0]))
    losses = []
    for b in range(12):
        others = [c for c in range(12) if not torch.equal(observation["mission"][b, 0], observation["mission"][c, 0])]
        assert 0 < len(others) < 12
        scores = torch.stack([20 * cosine(trajectories[b], texts[c]) for c in [b, *others]])
        losses.append(scores.logsumexp(0) - scores[0])
    torch.testing.assert_close(place.loss(STEPS), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_the_trajectory_is_seen_without_its_text():
    place = Place("text-pairs", False)
    given, real = [], place.encoder.forward
    place.encoder.forward = lambda observation: given.append(observation["mission"]) or real(observation)
    place.loss(STEPS)
    assert given and not any(numbers.any() for numbers in given)


def test_a_task_without_texts_is_refused():
    with pytest.raises(ValueError, match="need a text among what is observed, as minigrid/GoToDoor-5x5 shows one"):
        objectives.make("text-pairs", spec=CONTINUOUS, embed_dim=8)
