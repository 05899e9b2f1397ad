"""New steps are learned from once before they are sampled from like all others."""

import pytest

from worldmodel.data import Replay


def starts(steps):
    return [tuple(int(x) for x in row) for row in steps.observation["state"][:, 0]]


def test_every_stretch_is_served_once_the_oldest_first_then_windows_are_uniform(world):
    one = world(1)
    replay = Replay(one.spec, 100, seed=0)
    one.feed([replay], 23, uneven=False)
    first, _ = replay.sample(3, 5, across_episodes=True, fresh_every=4)
    assert starts(first) == [(0, 0), (0, 4), (0, 8)]
    rest, _ = replay.sample(40, 5, across_episodes=True, fresh_every=4)
    assert starts(rest)[:2] == [(0, 12), (0, 16)]
    assert {start for _, start in starts(rest)[2:]} - set(range(0, 20, 4)), "the others lie anywhere"
    one.feed([replay], 2, uneven=False)  # 25 steps: the window from 20 on is full now
    assert starts(replay.sample(1, 5, across_episodes=True, fresh_every=4)[0]) == [(0, 20)]


def test_every_ring_is_served(world):
    one = world(3)
    replay = Replay(one.spec, 300, 3)
    one.feed([replay], 9, uneven=False)
    steps, _ = replay.sample(6, 5, across_episodes=True, fresh_every=4)
    assert sorted(starts(steps)) == [(ring, start) for ring in range(3) for start in (0, 4)]


def test_inside_episodes_windows_that_cross_an_end_are_passed_over(world):
    one = world(1, episode=8)
    replay = Replay(one.spec, 400)
    one.feed([replay], 400, uneven=False)
    expected = [start for start in range(0, 396, 5) if not any(one.firsts[0][start + 1 : start + 5])]
    assert 10 < len(expected) < 75
    steps, _ = replay.sample(len(expected), 5, fresh_every=5)
    assert [start for _, start in starts(steps)] == expected


def test_what_was_overwritten_unseen_is_never_served(world):
    one = world(1)
    replay = Replay(one.spec, 20)
    one.feed([replay], 53, uneven=False)
    steps, _ = replay.sample(4, 5, across_episodes=True, fresh_every=5)
    assert starts(steps)[:4] == [(0, 33), (0, 38), (0, 43), (0, 48)]


def test_a_checkpoint_remembers_what_was_served(world):
    one = world(1)
    replay = Replay(one.spec, 100)
    one.feed([replay], 23, uneven=False)
    replay.sample(2, 5, across_episodes=True, fresh_every=5)
    again = Replay(one.spec, 100)
    again.load_rows(replay.rows_since([0]))
    again.load_state_dict(replay.state_dict())
    batches = [r.sample(4, 5, across_episodes=True, fresh_every=5)[0] for r in (replay, again)]
    assert starts(batches[0]) == starts(batches[1])
    assert starts(batches[1])[:2] == [(0, 10), (0, 15)]


@pytest.mark.parametrize("fresh_every", [None, 4])
def test_the_same_seed_gives_the_same_windows(world, fresh_every):
    drawn = []
    for _ in range(2):
        one = world(2)
        replay = Replay(one.spec, 100, 2, seed=3)
        one.feed([replay], 40)
        drawn.append(starts(replay.sample(30, 5, across_episodes=True, fresh_every=fresh_every)[0]))
    assert drawn[0] == drawn[1]
