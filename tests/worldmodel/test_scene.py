import pytest
import torch
from small import inside, model, rollout, seen, stream, weighted_over_time

from worldmodel.scene import weighted_mean


def test_pairs_lie_within_one_episode():
    steps = stream(size=20, length=7)
    scene, (size, length) = model().scene(steps), steps.reward.shape
    for distance in range(length + 2):
        expected = [
            [not any(steps.is_first[b, u] for u in range(t + 1, t + distance + 1)) for t in range(length - distance)]
            for b in range(size)
        ]
        assert scene.pairs(distance).tolist() == expected, distance


def test_filtered_and_imagined_features_are_those_of_plain_loops():
    one, steps = model(), stream()
    scene = one.scene(steps)
    torch.testing.assert_close(scene.features("imagined"), torch.stack([torch.stack(r) for r in rollout(one, steps)]))
    for b in range(6):
        for t in range(scene.length):
            torch.testing.assert_close(scene.features("filtered")[b, t], seen(one, steps, b, t).latent[0])


def test_a_perturbation_before_a_reset_changes_nothing_after_it():
    one, steps = model(), stream()
    assert steps.is_first[1, 2]
    observation = {"state": steps.observation["state"].clone()}
    observation["state"][1, :2] += 1
    action = steps.action.clone()
    action[1, :2] *= -1
    before, after = one.scene(steps), one.scene(steps._replace(observation=observation, action=action))
    for source in ("filtered", "imagined"):
        assert not torch.equal(before.features(source)[1, :2], after.features(source)[1, :2])
        assert torch.equal(before.features(source)[1, 2:], after.features(source)[1, 2:])


def test_each_view_is_computed_when_asked_for_and_once(monkeypatch):
    one, calls = model(), []
    for part, name in ((one.encoder, "forward"), (one.dynamics, "filter"), (one.dynamics, "step")):
        real = getattr(part, name)

        def counting(*arguments, real=real, name=name):
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(part, name, counting)
    scene = one.scene(stream(length=5))
    assert calls == []
    assert scene.embedding is scene.embedding
    assert calls == ["forward"]
    scene.features("filtered"), scene.features("filtered")
    assert calls == ["forward", "filter"]
    scene.features("imagined"), scene.features("imagined")
    assert calls == ["forward", "filter"] + ["step"] * 4


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_weighted_mean_weighs_times_and_averages_what_counts(decay):
    steps = stream()
    steps.is_first[:, 3] = True  # nothing counts at time 2
    loss = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    expected = weighted_over_time([[loss[b, t] for b, t in row] for row in inside(steps)], decay)
    torch.testing.assert_close(weighted_mean(loss, ~steps.is_first[:, 1:], decay), expected)
