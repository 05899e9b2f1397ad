import pytest
import torch
from small import CONTINUOUS, model, stream
from torch.distributions import OneHotCategorical, kl_divergence

import worldmodel
from worldmodel.diagnostics import surprise
from worldmodel.dynamics import GaussianRSSMConfig, RSSMConfig, SimNormDynamicsConfig, map_state

DYNAMICS = [RSSMConfig(16, 8, 4, 3, 2), GaussianRSSMConfig(16, 8, 4), SimNormDynamicsConfig(latent_dim=16, units=16)]


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_nothing_is_expected_of_first_steps_and_the_past_alone_decides(dynamics):
    one, steps = model(dynamics=dynamics), stream(size=12, length=6).select((slice(6), slice(5)))
    torch.manual_seed(1)
    found = surprise(one, steps)
    assert (
        found.shape == (6, 5)
        and (found[steps.is_first] == 0).all()
        and (found[:, 1:][~steps.is_first[:, 1:]] > 0).all()
    )
    changed = steps._replace(observation={name: value.clone() for name, value in steps.observation.items()})
    next(iter(changed.observation.values()))[:, 4] += 1
    torch.manual_seed(1)
    after = surprise(one, changed)
    torch.testing.assert_close(after[:, :4], found[:, :4], rtol=0, atol=1e-6)
    assert (after[:, 4] != found[:, 4])[~steps.is_first[:, 4]].all()


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_nothing_is_expected_where_a_sequence_begins_amid_an_episode(dynamics):
    one, steps = model(dynamics=dynamics), stream(size=12, length=6).select((slice(6), slice(5)))
    steps.is_first[:] = False
    found = surprise(one, steps)
    assert not found[:, 0].any() and (found[:, 1:] > 0).all()


def test_it_is_the_divergence_of_what_was_seen_from_what_was_expected():
    one, steps = model(dynamics=DYNAMICS[0]), stream(size=12, length=6).select((slice(4), slice(3)))
    steps = steps._replace(is_first=torch.tensor([[True, False, False]]).expand(4, 3))
    torch.manual_seed(1)
    found = surprise(one, steps)
    torch.manual_seed(1)
    states = one.scene(steps).filtered.states
    uniform, dynamics = one.dynamics.config.uniform, one.dynamics

    def distribution(logits):  # [B, classes, groups]
        return OneHotCategorical((1 - uniform) * logits.softmax(1).transpose(1, 2) + uniform / logits.shape[1])

    # The posterior of step 2, worked out again from the deterministic state and the embedding.
    deterministic = states.deterministic[:, 2]
    weights = dynamics.recurrent
    hidden = deterministic @ weights["posterior_in"] if weights["posterior_in"].shape[0] == 16 else None
    hidden = hidden + dynamics.evidence(one.encoder({n: v[:, 2] for n, v in steps.observation.items()}))
    hidden = torch.nn.functional.silu(
        torch.nn.functional.rms_norm(hidden, hidden.shape[1:], weights["posterior_in_gain"], 1e-4)
    )
    logits = (hidden @ weights["posterior_out"] + weights["posterior_out_bias"]).unflatten(1, (3, 4))
    expected = kl_divergence(distribution(logits), distribution(dynamics._prior_logits(deterministic))).sum(1)
    torch.testing.assert_close(found[:, 2], expected, rtol=1e-4, atol=1e-5)


def test_without_distributions_it_is_the_distance_to_the_step_imagined():
    one, steps = model(dynamics=DYNAMICS[2]), stream(size=12, length=6).select((slice(4), slice(3)))
    states = one.scene(steps).filtered.states
    for t in (1, 2):
        ahead = one.dynamics.step(map_state(lambda x, t=t: x[:, t - 1], states), steps.action[:, t - 1])
        distance = (ahead.latent - states.latent[:, t]).square().sum(-1) * ~steps.is_first[:, t]
        torch.testing.assert_close(surprise(one, steps)[:, t], distance)


def test_an_encoder_alone_expects_nothing():
    alone = worldmodel.Representation.from_config(worldmodel.RepresentationConfig(), CONTINUOUS)
    with pytest.raises(ValueError, match="surprise needs a dynamics model"):
        surprise(alone, stream(size=12, length=6))
