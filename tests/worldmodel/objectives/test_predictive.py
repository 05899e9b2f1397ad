import pytest
import torch
from small import inside, model, rollout, seen, stream, weighted_over_time, with_other_unexecuted_actions

from worldmodel import objectives
from worldmodel.objectives import ConsistencyConfig


def consistency(one, steps, **options):
    features = {"embed_dim": 8, "feature_dim": one.feature_dim, "spec": one.spec}
    return objectives.make("consistency", options=options, **features)(one.scene(steps)).losses["consistency"]


@pytest.mark.parametrize("options", [{}, {"weight": 1.5, "decay": 0.9}, {"decay": 1.0}])
def test_it_is_the_squared_error_of_a_plain_rollout(options):
    one, steps = model(), stream()
    config = ConsistencyConfig(**options)
    imagined = rollout(one, steps)
    errors = [
        [(imagined[b][t + 1] - seen(one, steps, b, t + 1).latent[0]).square().mean() for b, t in row]
        for row in inside(steps)
    ]
    expected = config.weight * weighted_over_time(errors, config.decay)
    torch.testing.assert_close(consistency(one, steps, **options), expected)


def test_the_papers_numbers_are_the_defaults():
    assert (ConsistencyConfig().weight, ConsistencyConfig().decay) == (20.0, 0.5)


def test_targets_give_no_gradient():
    one, steps = model(), stream().map(lambda value: value[:1, :2])  # within one episode
    steps.observation["state"].requires_grad_()
    consistency(one, steps).backward()
    gradient = steps.observation["state"].grad
    assert gradient[:, 0].any() and not gradient[:, 1].any()
    assert any(p.grad is not None and p.grad.any() for p in one.dynamics.transition.parameters())


def test_actions_that_were_never_executed_change_nothing():
    one, steps = model(), stream()
    assert torch.equal(consistency(one, steps), consistency(one, with_other_unexecuted_actions(steps)))


def test_other_episodes_do_not_matter_beyond_their_own_share():
    one, steps = model(), stream().map(lambda value: value[:, 1:3])
    without = ~steps.is_first[:, 1]
    assert 0 < without.sum() < len(without)
    torch.testing.assert_close(consistency(one, steps), consistency(one, steps.select(without)))
