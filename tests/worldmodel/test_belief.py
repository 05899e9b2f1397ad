import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small import CONTINUOUS, DISCRETE, SEVERAL_DISCRETE, model, stream

from worldmodel import Representation
from worldmodel.belief import Belief
from worldmodel.data import Spec
from worldmodel.dynamics import RSSMConfig
from worldmodel.encoders import VectorEncoderConfig, encoders

RECURRENT = RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2)


def recurrent(spec=CONTINUOUS):
    return model(spec, dynamics=RECURRENT).eval()


def updates(belief: Belief, spec: Spec, steps):
    """Features [N, T, F] of a stream, told as an environment tells it."""
    found = []
    for t in range(steps.reward.shape[1]):
        action = None if t == 0 else spec.action.to_environment(steps.action[:, t - 1])
        shown = {name: value[:, t].numpy() for name, value in steps.observation.items()}
        is_first = steps.is_first[:, t] if t else torch.ones_like(steps.is_first[:, 0])
        found.append(belief.update(shown, action, is_first.numpy()))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("spec", [CONTINUOUS, SEVERAL_DISCRETE])
@pytest.mark.parametrize("changes", [{}, {"dynamics": RECURRENT}])
def test_step_by_step_it_believes_what_filtering_at_once_does(spec, changes):
    one, steps = model(spec, **changes).eval(), stream(spec)
    steps = steps._replace(is_first=steps.is_first.clone())
    steps.is_first[:, 0] = True
    torch.manual_seed(3)
    expected = one.scene(steps).features("filtered")
    torch.manual_seed(3)
    found = updates(one.belief(6), spec, steps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32 and not found.requires_grad


def test_a_peek_is_the_update_that_it_stands_for_and_leaves_no_trace():
    one, generator = recurrent(), torch.Generator().manual_seed(0)
    belief, action = one.belief(3), np.ones((3, 2), np.float32)
    belief.update({"state": torch.randn(3, 3, generator=generator)}, None, np.ones(3, bool))
    kept, shown = belief.state, torch.randn(3, 3, generator=generator)
    peeked = belief.peek({"state": shown[[2, 0]]}, action[[2, 0]], [2, 0])
    assert belief.state is kept
    updated = belief.update({"state": shown}, action, np.zeros(3, bool))
    deterministic = one.dynamics.deterministic_dim
    torch.testing.assert_close(peeked[:, -deterministic:], updated[[2, 0], -deterministic:])
    assert not torch.equal(updated[0, -deterministic:], updated[2, -deterministic:])


def test_a_reset_forgets_the_environment_that_was_reset_and_no_other():
    belief = recurrent().belief(2)
    shown, action = {"state": np.ones((2, 3), np.float32)}, np.ones((2, 2), np.float32)
    deterministic = belief.model.dynamics.deterministic_dim
    first = belief.update(shown, None, [True, True])[:, -deterministic:]
    belief.update(shown, action, [False, False])
    again = belief.update(shown, action, [True, False])[:, -deterministic:]
    torch.testing.assert_close(again[0], first[0])
    assert not torch.allclose(again[1], first[1], atol=1e-3)


def test_without_dynamics_the_features_are_the_embeddings():
    torch.manual_seed(0)
    encoder = encoders.make(VectorEncoderConfig(units=8), spec=CONTINUOUS)
    belief = Belief(Representation(encoder, []), CONTINUOUS, 2)
    shown = torch.randn(2, 3)
    found = belief.update({"state": shown}, None, [True, True])
    assert torch.equal(found, encoder({"state": shown})) and belief.feature_dim == encoder.embed_dim
    # A bare observation needs no name, where the space has none.
    assert torch.equal(belief.update(shown, None, [True, True]), found)


@pytest.mark.parametrize(
    ("observation", "action", "is_first", "sentence"),
    [
        (np.zeros((2, 4)), None, [1, 1], "'state' has the shape .2, 4., expected were N times a vector of 3 numbers"),
        ({"states": np.zeros((2, 3))}, None, [1, 1], r"has the entries \['states'\], its space says \['state'\]"),
        (np.zeros((2, 3)), None, [1, 0], "previous_action=None is for first steps alone"),
        (np.zeros((2, 3)), None, [1, 1, 1], "about 2 environments was given 3 is_first"),
        (
            np.zeros((2, 3)),
            np.zeros((1, 2)),
            [0, 0],
            r"Actions of shape \[1, 2\] were given, where 2 environments take \[2, 2\]",
        ),
        (np.zeros((2, 3)), np.zeros(2), [0, 0], r"Actions of shape \[2\] were given"),
        (np.zeros((2, 3)), 0.5, [0, 0], r"Actions of shape \[\] were given"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), None, [1, 1], "Observation 'state' is not finite in row 1"),
        (np.zeros((2, 3)), np.full((2, 2), np.inf), [0, 0], "An action that is not finite was given"),
        (np.zeros((3, 3)), None, [1, 1], "Observations of 3 environments were given, 2 are to be looked at"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence_and_nothing_is_lost(observation, action, is_first, sentence):
    belief = recurrent().belief(2)
    belief.update(np.ones((2, 3)), None, [True, True])
    kept = belief.state
    with pytest.raises(ValueError, match=sentence):
        belief.update(observation, action, is_first)
    assert belief.state is kept


def test_an_image_with_its_channels_first_is_refused():
    spec = Spec.from_spaces(spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Discrete(2))
    assert spec.observation_arrays(np.zeros((2, 8, 8, 3), np.uint8))["image"].shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match=r"'image' has the shape \[2, 3, 8, 8\], expected were N times an image"):
        spec.observation_arrays(np.zeros((2, 3, 8, 8), np.uint8))
    gray = dataclasses.replace(spec.observation["image"], shape=(8, 8, 1))
    assert gray.fits((2, 8, 8)) and gray.fits((2, 8, 8, 1)) and not gray.fits((2, 64))


def test_what_stands_for_an_action_before_a_first_step_does_not_matter():
    beliefs = [model(DISCRETE, dynamics=RECURRENT).eval().belief(2, draw=False) for _ in range(2)]
    seen = np.ones((2, 3), np.float32)
    found = []
    for belief, placeholder in zip(beliefs, (-1, 3), strict=True):
        belief.update(seen, None, [True, True])
        found.append(belief.update(seen, np.array([placeholder, 2]), [True, False]))
    assert torch.equal(*found)


def test_actions_of_another_environments_bounds_are_spoken_of_once(caplog):
    one, steps = recurrent(), stream(CONTINUOUS)
    belief = one.belief(len(steps.reward))
    shown = {name: value[:, 0] for name, value in steps.observation.items()}
    bound = CONTINUOUS.action.high[0]
    belief.update(shown, None, np.ones(belief.num_envs))
    inside = CONTINUOUS.action.to_environment(torch.ones(belief.num_envs, CONTINUOUS.action.dim))
    belief.update(shown, inside, np.zeros(belief.num_envs))
    assert not caplog.text
    for _ in range(2):
        belief.update(shown, 2 * inside + bound, np.zeros(belief.num_envs))
    assert caplog.text.count("beyond the bounds that the model was trained in") == 1
