import logging
from collections import Counter

import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Entry, Replay, Spec, storage


def starts(steps):
    return [tuple(pair) for pair in steps.observation["state"][:, 0].long().tolist()]


@pytest.mark.parametrize("across_episodes", [False, True])
@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize(("num_envs", "ticks"), [(1, 15), (1, 200), (4, 9), (4, 37), (4, 300)])
def test_windows_are_uniform_over_all_valid_ones(world, num_envs, ticks, length, across_episodes):
    feeder, replay = world(num_envs), Replay(world.spec, 25 * num_envs, num_envs, seed=1)
    feeder.feed([replay], ticks)
    valid = feeder.windows(25, length, across_episodes)
    if not valid:
        with pytest.raises(ValueError, match=f"No window of {length} steps"):
            replay.sample(1, length, across_episodes=across_episodes)
        return
    expected = 60
    counts = Counter()
    for _ in range(10):
        steps, _ = replay.sample(expected * len(valid) // 10, length, across_episodes=across_episodes)
        counts.update(starts(steps))
    assert counts.keys() <= set(valid)
    expected = sum(counts.values()) / len(valid)
    chi_square = sum((counts[window] - expected) ** 2 / expected for window in valid)
    freedom = len(valid) - 1
    assert chi_square <= freedom + 5 * (2 * freedom) ** 0.5


def test_windows_are_contiguous_whole_and_inside_their_episode(world):
    feeder, replay = world(3), Replay(world.spec, 60, 3)
    for _ in range(30):
        feeder.feed([replay], 7)
        steps, index = replay.sample(64, 4, across_episodes=True)
        state = steps.observation["state"]
        assert torch.equal(state[:, 1:, 0], state[:, :-1, 0]) and torch.equal(state[:, 1:, 1], state[:, :-1, 1] + 1)
        assert steps.batch_shape == index.shape == (64, 4)
        assert torch.equal(steps.reward, state[..., 1] / 4) and torch.equal(steps.action, state / 1000)
        assert torch.equal(steps.observation["image"][..., 0, 0, 0].long(), state[..., 1].long() % 251)
        inside, _ = replay.sample(64, 4)
        assert not inside.is_first[:, 1:].any()


def test_one_valid_window_among_thousands_is_found(world):
    feeder, replay = world(1, episode=1), Replay(world.spec, 3000)
    feeder.feed([replay], 2500)
    with pytest.raises(ValueError, match="inside one episode"):
        replay.sample(4, 2)
    steps = feeder.step([0])
    replay.add(steps._replace(is_first=torch.tensor([False])), [0])
    feeder.feed([replay], 100)
    assert set(starts(replay.sample(32, 2)[0])) == {(0, 2499)}


def test_rare_windows_are_uniform_too(world):
    """Few enough valid windows that some of a batch come from rejection and some from enumeration."""
    feeder, replay = world(1, episode=1), Replay(world.spec, 2000)
    for i in range(1000):
        replay.add(feeder.step([0])._replace(is_first=torch.tensor([i % 90 != 0 or i == 0])), [0])
    counts = Counter(start for _ in range(300) for start in starts(replay.sample(16, 2)[0]))
    expected = 300 * 16 / 11
    assert len(counts) == 11 and sum((count - expected) ** 2 / expected for count in counts.values()) < 10 + 5 * 20**0.5


def test_rare_windows_never_begin_before_the_oldest_step(world):
    """The ring's oldest steps belong to an episode whose beginning is overwritten; little else is in one piece."""
    feeder, replay = world(1, episode=1), Replay(world.spec, 1000)
    for i in range(1400):
        replay.add(feeder.step([0])._replace(is_first=torch.tensor([i >= 405 and i != 1200])), [0])
    drawn = {start for _ in range(50) for start in starts(replay.sample(16, 4)[0])}
    assert drawn == {(0, 400), (0, 401)}


def test_length_and_counts_follow_each_ring(world):
    feeder, replay = world(3), Replay(world.spec, 31, 3)
    assert len(replay) == 0 and replay.capacity == 30
    feeder.feed([replay], 25)
    lengths = [len(firsts) for firsts in feeder.firsts]
    assert replay.steps_added == lengths and min(lengths) < 10 < max(lengths)
    assert len(replay) == sum(min(length, 10) for length in lengths)


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone(world):
    feeder, replays = world(2), [Replay(world.spec, 60, 2, seed=seed) for seed in (5, 5, 6)]
    feeder.feed(replays, 100)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    world.assert_same_samples(replays[0], replays[1])
    assert starts(replays[1].sample(64, 3)[0]) != starts(replays[2].sample(64, 3)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_written_back_is_found_with_its_step_and_only_there(world):
    feeder, replay = world(2), Replay(world.spec, 40, 2, extras=world.extras)
    feeder.feed([replay], 60)
    written = {}
    for _ in range(200):
        steps, index = replay.sample(8, 3)
        identity = steps.observation["state"][..., 0] * 1e4 + steps.observation["state"][..., 1]
        feeder.feed([replay], int(feeder.random.integers(0, 25)))
        value = torch.randn(8, 3, 3)
        replay.write_back(index, {"latent": value, "visits": identity.long()})
        for key, single in zip(identity.flatten().tolist(), value.flatten(0, 1), strict=True):
            written[key] = single
        found, _ = replay.sample(64, 2)
        state = found.observation["state"].flatten(0, 1)
        for (ring, position), latent, visits in zip(
            state.tolist(), found.extras["latent"].flatten(0, 1), found.extras["visits"].flatten(), strict=True
        ):
            key = ring * 1e4 + position
            if key in written:
                assert visits == key and torch.equal(latent, written[key]), "the last write of a step must stay"
            else:
                assert visits == 0 and latent.eq(0).all(), "a new step must not inherit an overwritten one's extras"


def test_extras_given_with_a_step_are_stored(world):
    replay = Replay(world.spec, 10, extras=world.extras)
    steps = world(1).step([0])._replace(extras={"latent": torch.ones(1, 3)})
    replay.add(steps, [0])
    assert replay.sample(1, 1)[0].extras["latent"].tolist() == [[[1, 1, 1]]]


def test_memory_mapped_is_the_same_and_earlier_files_do_not_show(world, tmp_path):
    for capacity in (90, 60):
        feeder = world(3, seed=capacity)
        mapped, plain = (
            Replay(world.spec, capacity, 3, extras=world.extras, directory=tmp_path),
            Replay(world.spec, capacity, 3, extras=world.extras),
        )
        for _ in range(10):
            feeder.feed([mapped, plain], 11)
            world.assert_same_samples(mapped, plain)
            _, index = mapped.sample(4, 2)
            plain.sample(4, 2)
            for replay in (mapped, plain):
                replay.write_back(index, {"latent": index[..., None].expand(-1, -1, 3).float()})
        assert len(list(tmp_path.iterdir())) == 9
    on_disk = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert on_disk + 4 * 60 == Replay.bytes_needed(world.spec, 60, world.extras)


def test_a_second_replay_in_a_folder_leaves_the_first_its_steps(world, tmp_path):
    feeder, first = world(1), Replay(world.spec, 5000, directory=tmp_path)
    feeder.feed([first], 50)
    before = first.rows_since([0])
    feeder.feed([Replay(world.spec, 10, directory=tmp_path)], 10)
    assert world.same(first.rows_since([0]), before)


def test_half_a_million_frames_take_six_gigabytes_and_that_is_said_to_whom_shows_warnings_alone(caplog, monkeypatch):
    camera = Entry((64, 64, 3), "uint8")
    spec = Spec.from_spaces(spaces.Dict(camera=spaces.Box(0, 255, camera.shape, "uint8")), spaces.Box(-1, 1, (6,)))
    assert Replay.bytes_needed(spec, 500_000) == pytest.approx(6.2e9, rel=0.01)
    monkeypatch.setattr(storage, "_available", lambda device, directory: 0)
    latent = {"latent": Entry((1024,), "float32")}
    with caplog.at_level(logging.WARNING, "worldmodel"), pytest.raises(ValueError, match="0 steps fit"):
        Replay(spec, 500_000, extras=latent)
    assert "500,000 steps: 7.6 GiB in memory, 1.9 GiB of it latent states, which each checkpoint copies" in caplog.text


def test_bytes_are_announced_before_and_a_refusal_says_what_fits(world, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "worldmodel"):
        Replay(world.spec, 1024)
    # state 8, image 4, reward 4, three flags 3, action 8, age 4
    assert Replay.bytes_needed(world.spec, 1024) == 31 * 1024
    assert "1,024 steps: 31.0 KiB" in caplog.text
    for directory in (None, tmp_path):
        with pytest.raises(ValueError, match=r"at most [\d,]+ steps fit") as refusal:
            Replay(world.spec, 10**15, directory=directory)
        fits = int(str(refusal.value).split("at most ")[1].split(" ")[0].replace(",", ""))
        assert 10**3 < fits < 10**14
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_is_refused_and_leaves_the_replay_as_it_was(world):
    feeder, replay = world(2), Replay(world.spec, 20, 2, extras=world.extras)
    feeder.feed([replay], 10)
    before, steps = replay.rows_since([0, 0]), world(2).step([0, 1])
    wrong = [
        (steps, [0, 0], "at most one step"),
        (steps, [0, 2], "rings 0 to 1"),
        (steps, [-1, 0], "rings 0 to 1"),
        (steps, [0], "of shape"),
        (steps._replace(action=torch.zeros(2, 3)), [0, 1], "'action' of shape"),
        (steps._replace(observation={"state": torch.zeros(2, 2)}), [0, 1], "observation/image"),
        (steps._replace(extras={"latents": torch.zeros(2, 3)}), [0, 1], "extras/latents"),
    ]
    for given, index, words in wrong:
        with pytest.raises(ValueError, match=words):
            replay.add(given, index)
    assert world.same(replay.rows_since([0, 0]), before)
    _, index = replay.sample(4, 1)
    with pytest.raises(ValueError, match=r"declared are \['latent', 'visits'\]"):
        replay.write_back(index, {"latents": torch.zeros(4, 1, 3)})
    with pytest.raises(ValueError, match="shape"):
        replay.write_back(index, {"latent": torch.zeros(4, 3)})
    with pytest.raises(ValueError, match="at least one"):
        replay.sample(0, 1)
    with pytest.raises(ValueError, match="at least one step for each environment"):
        Replay(world.spec, 1, 2)


@pytest.mark.parametrize(("num_envs", "ticks", "count"), [(1, 40, 10), (3, 9, 100), (3, 60, 25), (2, 30, 1)])
def test_the_newest_steps_of_a_ring_are_its_last_in_their_order(world, num_envs, ticks, count):
    feeder, replay = world(num_envs), Replay(world.spec, 25 * num_envs, num_envs)
    feeder.feed([replay], ticks)
    ring = num_envs - 1
    newest, held = replay.newest(count, ring), replay.rows_since([0] * num_envs)
    mine = slice(-int(held["ring_length"][ring]), None)
    expected = held["observation/state"][mine][-count:]
    assert torch.equal(newest.observation["state"], expected) and len(expected) == min(
        count, int(held["ring_length"][ring])
    )
    assert torch.equal(newest.is_first, held["is_first"][mine][-count:])
    assert not newest.extras
