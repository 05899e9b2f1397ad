import numpy as np
import pytest

import envs
from envs.distractions import DISTRACTIONS, distract
from envs.episodes import episode_seed

GREY = np.full((12, 16, 16, 3), 128, np.uint8)
PICTURES = np.random.default_rng(0).integers(60, 190, (12, 16, 16, 3)).astype(np.uint8)


def seen(*names: str, pictures: np.ndarray = GREY, seed: int = 0) -> np.ndarray:
    return distract(pictures, names, seed).astype(np.float32)


def test_noise_of_an_episode_stays_and_noise_of_a_step_does_not():
    lasting, fresh = seen("episode-noise:0.1"), seen("step-noise:0.1")
    assert (lasting == lasting[0]).all() and (lasting[0] != seen("episode-noise:0.1", seed=1)[0]).any()
    assert all((one != other).mean() > 0.9 for one, other in zip(fresh[1:], fresh[:-1], strict=True))
    for noisy in (lasting[0], fresh[0]):
        assert abs(noisy.std() / 255 - 0.1) < 0.01 and abs(noisy.mean() - 128) < 4


def test_colours_are_one_affine_map_for_all_pixels_of_an_episode_and_another_for_the_next():
    changed = seen("colour:0.2", pictures=PICTURES)
    rows = np.concatenate([PICTURES.reshape(-1, 3), np.ones((PICTURES.size // 3, 1))], 1)
    inside = ((changed.reshape(-1, 3) > 0) & (changed.reshape(-1, 3) < 255)).all(1)
    found, *_ = np.linalg.lstsq(rows[inside], changed.reshape(-1, 3)[inside], rcond=None)
    assert np.abs(rows[inside] @ found - changed.reshape(-1, 3)[inside]).max() <= 0.6, "rounding alone is left"
    assert np.abs(found[:3] - np.eye(3)).max() <= 0.201
    assert (changed != seen("colour:0.2", pictures=PICTURES, seed=1)).any()


def test_a_background_moves_and_is_blended_by_its_share():
    alone, half = seen("background:1"), seen("background:0.5")
    assert all(np.abs(one - other).mean() > 1 for one, other in zip(alone[1:], alone[:-1], strict=True))
    assert (seen("background:1", pictures=PICTURES) == alone).all(), "of the whole picture nothing is left"
    assert np.abs(half - (0.5 * 128 + 0.5 * alone)).max() <= 1
    assert alone.std() > 40


def test_a_shaken_camera_moves_the_picture_by_whole_pixels_within_its_strength():
    moved, places = seen("camera:0.25", pictures=np.repeat(PICTURES[:1], 60, 0)), set()
    padded = np.pad(PICTURES[0], ((4, 4), (4, 4), (0, 0)), mode="edge")
    for frame in moved:
        fits = [(y, x) for y in range(9) for x in range(9) if (padded[y : y + 16, x : x + 16] == frame).all()]
        assert len(fits) == 1
        places.add(fits[0])
    assert len(places) > 10 and {y for y, _ in places} >= {2, 4, 6}


@pytest.mark.parametrize("name", DISTRACTIONS)
def test_episodes_that_are_seeded_alike_look_alike_live_recorded_and_resumed(name):
    def make(**options):
        return envs.make("CartPole-v1", observation="both", image_size=16, seed=3, **options)

    clean, live, again = make(), make(distractions=[name]), make(distractions=[name])
    # What is recorded of the task names the strength, whatever the default will be one day.
    assert live.arguments["distractions"] == (f"{name}:{DISTRACTIONS[name].default:g}",)
    shown = {"clean": [], "live": []}
    for task, frames in ((clean, "clean"), (live, "live")):
        observation, _ = task.reset(seed=3)
        for t in range(6):
            shown[frames].append(observation["image"][0])
            observation, *_ = task.step(np.array([t % 2]))
    assert not np.array_equal(shown["live"], shown["clean"])
    recorded = distract(np.stack(shown["clean"]), [name], episode_seed(3, 0, 0))
    np.testing.assert_array_equal(recorded, shown["live"])
    np.testing.assert_array_equal(again.restore(live.snapshot())["image"], observation["image"])
    ended, *_ = live.step(np.array([0]))
    np.testing.assert_array_equal(again.step(np.array([0]))[0]["image"], ended["image"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"distractions": ["backgroud"]}, "no distraction named 'backgroud': did you mean 'background'"),
        (
            {"distractions": ["camera:2"]},
            "'camera:2' is not accepted: give one above 0 and at most 1, such as camera:0.1",
        ),
        ({"distractions": ["camera:far"]}, "'camera:far' is not accepted"),
        ({"distractions": "camera"}, r"give a list, \['camera'\]"),
        ({"distractions": ["camera"], "observation": "state"}, "add observation='pixels'"),
    ],
)
def test_wrong_distractions_stop_at_the_door(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        envs.make("CartPole-v1", **({"observation": "pixels"} | options))
