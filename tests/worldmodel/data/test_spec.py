import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from worldmodel.data import ActionSpec, Entry, Spec
from worldmodel.data.spec import VOCABULARY, word_numbers

STATE = spaces.Box(-1, 1, (3,), np.float32)
ACTION_SPACES = [
    spaces.Box(-2.0, 3.0, (4,), np.float32),
    spaces.Box(np.array([[-1.0, 0.0], [5.0, -1e6]]), np.array([[1.0, 0.5], [9.0, 1e6]]), dtype=np.float64),
    spaces.Box(-1.0, 1.0, (), np.float32),
    spaces.Box(-5, 7, (2,), np.int32),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([3, 4, 2]),
    spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[1, 0], [-2, 7]])),
]
OBSERVATION = spaces.Dict(
    {
        "arm": spaces.Dict({"joints": spaces.Box(-1, 1, (2, 3), np.float64), "grip": spaces.Discrete(3, start=-1)}),
        "camera": spaces.Box(0, 255, (8, 6, 3), np.uint8),
        "gear": spaces.MultiDiscrete([2, 3], start=[0, 4]),
        "lamps": spaces.MultiBinary((2, 2)),
        "time": spaces.Box(0, 1, (), np.float32),
    }
)


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_actions_come_back_from_the_environments_form(space):
    space.seed(0)
    batched = batch_space(space, 64)
    batched.seed(0)
    action = Spec.from_spaces(STATE, space).action
    given = batched.sample()
    vectors = action.from_environment(given)
    assert vectors.shape == (64, action.dim) and vectors.dtype == torch.float32
    assert vectors.abs().max() <= 1
    back = action.to_environment(vectors)
    assert back.shape == given.shape and back.dtype == given.dtype
    if action.discrete or np.issubdtype(space.dtype, np.integer):
        np.testing.assert_array_equal(back, given)
    else:
        scale = np.asarray(space.high, np.float64) - space.low
        np.testing.assert_allclose(back / scale, given / scale, atol=1e-6)


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_the_space_of_actions_is_told_as_it_was_given(space):
    assert ActionSpec.from_space(space).space() == space


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_random_actions_are_valid_repeatable_and_reach_everything(space):
    action = Spec.from_spaces(STATE, space).action
    vectors = action.random(2000, torch.Generator().manual_seed(3))
    assert torch.equal(vectors, action.random(2000, torch.Generator().manual_seed(3)))
    executed = action.to_environment(vectors)
    for single in iterate(batch_space(space, 2000), executed):
        assert space.contains(np.asarray(single, space.dtype) if space.shape else space.dtype.type(single))
    if action.discrete:
        for part, count in zip(vectors.split(action.categories, 1), action.categories, strict=True):
            assert torch.equal(part.sum(1), torch.ones(2000))
            expected = 2000 / count
            assert (part.sum(0) - expected).abs().max() < 6 * expected**0.5
    else:
        assert vectors.mean(0).abs().max() < 0.1 and (vectors.std(0) - 3**-0.5).abs().max() < 0.05


def test_the_ends_of_the_interval_are_exactly_the_bounds_and_beyond_is_clipped():
    space = spaces.Box(np.float32([-0.1, 0.3]), np.float32([0.7, 0.9]))
    action = Spec.from_spaces(STATE, space).action
    low, high, beyond = action.to_environment(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [7.0, -7.0]]))
    np.testing.assert_array_equal(low, space.low)
    np.testing.assert_array_equal(high, space.high)
    np.testing.assert_array_equal(beyond, [space.high[0], space.low[1]])


def test_observations_are_flattened_encoded_and_named():
    spec = Spec.from_spaces(OBSERVATION, spaces.Discrete(2))
    assert list(spec.observation) == ["arm/grip", "arm/joints", "camera", "gear", "lamps", "time"]
    assert spec.observation["camera"].kind == "image" and spec.observation["gear"].kind == "vector"
    batch = {
        "arm": {"joints": np.arange(12.0).reshape(2, 2, 3), "grip": np.array([-1, 1])},
        "camera": np.full((2, 8, 6, 3), 7, np.uint8),
        "gear": np.array([[0, 6], [1, 4]]),
        "lamps": np.array([[[0, 1], [1, 1]], [[0, 0], [0, 1]]], np.int8),
        "time": np.array([0.25, 0.5], np.float32),
    }
    arrays = spec.observation_arrays(batch)
    assert {name: tuple(value.shape[1:]) for name, value in arrays.items()} == {
        name: entry.shape for name, entry in spec.observation.items()
    }
    assert arrays["arm/joints"].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert arrays["arm/grip"].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert arrays["gear"].tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    assert arrays["lamps"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert arrays["time"].tolist() == [[0.25], [0.5]]
    batch["camera"][:] = 0
    assert arrays["camera"].eq(7).all(), "the environment's buffer must not show through"


def test_bare_spaces_are_named_by_what_they_are():
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    assert Spec.from_spaces(STATE, spaces.Discrete(2)).observation == {"state": Entry((3,), "float32")}
    assert Spec.from_spaces(image, spaces.Discrete(2)).observation == {"image": Entry((8, 8, 3), "uint8")}
    grey = Spec.from_spaces(spaces.Box(0, 255, (8, 9), np.uint8), spaces.Discrete(2))
    assert grey.observation["image"].shape == (8, 9, 1)
    discrete = Spec.from_spaces(spaces.Discrete(4), spaces.Discrete(2))
    assert discrete.observation_arrays(np.array([0, 3]))["state"].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("action_space", ACTION_SPACES, ids=str)
def test_a_spec_survives_json(action_space):
    spec = Spec.from_spaces(OBSERVATION, action_space)
    restored = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert restored == spec and hash(restored) == hash(spec) and restored.differences(spec) == []
    assert list(restored.observation) == list(spec.observation)


def test_differences_name_every_entry_that_differs_and_no_other():
    mine = Spec({"a": Entry((3,), "float32"), "b": Entry((2,), "float32")}, ActionSpec(low=(-1.0,), high=(1.0,)))
    theirs = Spec({"a": Entry((4,), "float32"), "c": Entry((2,), "float32")}, ActionSpec(low=(-2.0,), high=(1.0,)))
    sentences = mine.differences(theirs)
    assert len(sentences) == 4
    for words in (("'a'", "[4]", "[3]"), ("'b'", "missing"), ("'c'", "new"), ("low", "-2.0", "-1.0")):
        assert any(all(word in sentence for word in words) for sentence in sentences), words


def test_what_differs_is_told_where_shapes_and_categories_are_alike():
    one, other = (Spec.from_spaces(spaces.Discrete(3, start=start), spaces.Discrete(2)) for start in (0, 1))
    (sentence,) = one.differences(other)
    assert "uint8 [3] of categories [3] from [1] on instead of uint8 [3] of categories [3]." in sentence


def test_a_field_of_the_future_is_refused_in_a_sentence():
    written = Spec.from_spaces(STATE, spaces.Discrete(2)).to_dict()
    written["action"]["delay"] = 1
    with pytest.raises(ValueError, match="There is no option of ActionSpec named 'delay'"):
        Spec.from_dict(written)


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (spaces.Dict(words=spaces.Sequence(spaces.Discrete(2))), spaces.Discrete(2), ["Sequence", "Box, Discrete"]),
        (spaces.Tuple([STATE]), spaces.Discrete(2), ["Tuple", "Box, Discrete"]),
        (spaces.Box(0, 255, (3, 64, 64), np.uint8), spaces.Discrete(2), ["(3, 64, 64)", "channels"]),
        (spaces.Dict({"a/b": STATE, "a": spaces.Dict(b=STATE)}), spaces.Discrete(2), ["both named 'a/b'"]),
        (spaces.Dict({}), spaces.Discrete(2), ["empty"]),
        (STATE, spaces.Box(-np.inf, 1, (2,)), ["inf", "finite bounds"]),
        (STATE, spaces.MultiBinary(3), ["MultiBinary(3)", "Discrete and MultiDiscrete"]),
        (STATE, spaces.Tuple([spaces.Discrete(2)]), ["Tuple", "MultiDiscrete"]),
    ],
    ids=str,
)
def test_other_spaces_are_refused_by_name(observation, action, words):
    with pytest.raises(ValueError) as refusal:
        Spec.from_spaces(observation, action)
    assert all(word in str(refusal.value) for word in words)


def test_impossible_values_are_refused():
    spec = Spec.from_spaces(spaces.Discrete(3), spaces.Discrete(2))
    with pytest.raises(ValueError, match="outside its range"):
        spec.observation_arrays(np.array([0, 3]))
    with pytest.raises(ValueError, match=r"\[N, 2\]"):
        spec.action.to_environment(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="entries"):
        Spec.from_spaces(spaces.Dict(a=STATE, b=STATE), spaces.Discrete(2)).observation_arrays({"a": np.zeros((1, 3))})


def test_pictures_that_were_scaled_are_not_taken_for_black_ones():
    spec = Spec.from_spaces(spaces.Box(0, 255, (4, 4, 3), np.uint8), spaces.Discrete(2))
    whole = np.full((2, 4, 4, 3), 200, np.float32)
    assert spec.observation_arrays(whole)["image"].dtype == torch.uint8
    assert (spec.observation_arrays(whole)["image"] == 200).all()
    with pytest.raises(
        ValueError, match=r"An image of shape \(4, 4, 3\) has whole numbers, .* float32 was given, with 0.784 in it"
    ):
        spec.observation_arrays(whole / 255)


def test_texts_are_numbers_of_their_words():
    spec = Spec.from_spaces(spaces.Dict(mission=spaces.Text(30), state=spaces.Discrete(2)), spaces.Discrete(2))
    entry = spec.observation["mission"]
    assert (entry.kind, entry.shape, entry.dtype) == ("text", (15,), "int16")
    texts = ("go to the red ball", "", "GO, to the the!")
    found = spec.observation_arrays({"mission": texts, "state": np.array([0, 1, 0])})["mission"]
    assert found.shape == (3, 15) and found.dtype is torch.int16 and found.min() >= 0 and found.max() < VOCABULARY
    go, to, the = found[0, :3].tolist()
    assert not found[1].any(), "no words"
    assert found[2, 0] == go and found[2, 2:5].tolist() == [to, the, the], (
        "whatever the case; signs are words of their own"
    )
    assert found[2, 1] not in (go, to, the, 0) and found[2, 5] != 0 and not found[2, 6:].any()
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert Spec.from_spaces(spaces.Text(9), spaces.Discrete(2)).observation.keys() == {"text"}


def test_words_keep_their_numbers_in_every_process_and_long_texts_are_cut():
    assert word_numbers("open the door") == [2897, 634, 782]
    assert len(word_numbers("a " * 500)) == 64
    words = {f"word{n}" for n in range(300)}
    assert len({word_numbers(word)[0] for word in words}) > 280


def test_spaces_are_told_of_which_a_spec_is_one():
    text = spaces.Dict({**OBSERVATION.spaces, "mission": spaces.Text(20), "one": spaces.Discrete(4)})
    spec = Spec.from_spaces(text, spaces.Discrete(2))
    assert Spec.from_spaces(*spec.spaces()) == spec
