import pytest
import torch
from safetensors.torch import load, save

from worldmodel.data import Replay


def write_somewhere(world, replays):
    index = None
    for replay in replays:
        drawn, identity = replay.sample(8, 2)
        index = identity if index is None else index
        assert torch.equal(index, identity)
        values = drawn.observation["state"].sum(-1)
        replay.write_back(index, {"latent": values[..., None].expand(-1, -1, 3), "visits": values.long() + 1})


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("checkpoints", "ticks"), [(1, 8), (3, 12), (12, 9), (4, 70)])
def test_a_restored_replay_goes_on_bit_for_bit(world, checkpoints, ticks, pruned):
    """Checkpoints closer and farther than a ring is long; `pruned` drops the chunks that are overwritten anyway."""
    feeder, replay = world(3), Replay(world.spec, 75, 3, extras=world.extras, seed=7)
    chunks, counts = [], [0, 0, 0]
    for _ in range(checkpoints):
        for _ in range(ticks):
            feeder.feed([replay], 1)
            if len(replay) > 10:
                write_somewhere(world, [replay])
        chunks.append(save(replay.rows_since(counts)))
        counts = replay.steps_added
    state = save(replay.state_dict())

    loaded = [load(chunk) for chunk in chunks]
    if pruned:
        ends = [(chunk["ring_start"] + chunk["ring_length"]).tolist() for chunk in loaded]
        alive = [max(count - 25, 0) for count in counts]
        loaded = [
            chunk
            for chunk, end in zip(loaded, ends, strict=True)
            if any(mine > oldest for mine, oldest in zip(end, alive, strict=True))
        ]
    restored = Replay(world.spec, 75, 3, extras=world.extras, seed=8)
    for chunk in loaded:
        restored.load_rows(chunk)
    restored.load_state_dict(load(state))

    assert restored.steps_added == replay.steps_added and len(restored) == len(replay)
    assert world.same(restored.rows_since([0, 0, 0]), replay.rows_since([0, 0, 0]))
    for _ in range(20):
        world.assert_same_samples(replay, restored, batches=2, length=2)
        feeder.feed([replay, restored], 5)
        write_somewhere(world, [replay, restored])
        world.assert_same_samples(replay, restored, batches=2, length=4)


def test_chunks_hold_each_step_once(world):
    feeder, replay = world(2), Replay(world.spec, 100, 2)
    feeder.feed([replay], 20, uneven=False)
    early = replay.rows_since([0, 0])
    counts = replay.steps_added
    assert replay.rows_since(counts)["reward"].shape == (0,)
    feeder.feed([replay], 15, uneven=False)
    late = replay.rows_since(torch.tensor(counts))
    assert late["ring_start"].tolist() == [20, 20] and late["ring_length"].tolist() == [15, 15]
    whole = replay.rows_since([0, 0])
    for name in ("observation/state", "action", "is_first"):
        rings = [torch.cat([a, b]) for a, b in zip(early[name].split(20), late[name].split(15), strict=True)]
        assert torch.equal(whole[name], torch.cat(rings))
    assert all(value.is_contiguous() for value in whole.values())


def test_a_larger_replay_takes_the_rows_of_a_smaller_one(world):
    feeder, small, large = world(2), Replay(world.spec, 20, 2), Replay(world.spec, 60, 2)
    feeder.feed([small], 30)
    large.load_rows(small.rows_since([0, 0]))
    assert large.steps_added == small.steps_added and len(large) == len(small)
    drawn, _ = large.sample(500, 2, across_episodes=True)
    assert {tuple(pair) for pair in drawn.observation["state"][:, 0].long().tolist()} == set(
        feeder.windows(10, 2, True)
    )


def test_rows_that_do_not_fit_together_are_refused(world):
    feeder, replay = world(2), Replay(world.spec, 40, 2, extras=world.extras)
    feeder.feed([replay], 10)
    rows, state = replay.rows_since([0, 0]), replay.state_dict()
    with pytest.raises(ValueError, match="every chunk once"):
        replay.load_rows(rows)
    with pytest.raises(ValueError, match="3 rings"):
        Replay(world.spec, 40, 3, extras=world.extras).load_rows(rows)
    with pytest.raises(ValueError, match="lack .*action"):
        Replay(world.spec, 40, 2).load_rows({name: value for name, value in rows.items() if name != "action"})
    with pytest.raises(ValueError, match="'action' of shape"):
        Replay(world.spec, 40, 2).load_rows({**rows, "action": rows["action"][:, :1]})
    fresh = Replay(world.spec, 40, 2, extras=world.extras)
    with pytest.raises(ValueError, match="not of one checkpoint"):
        fresh.load_state_dict(state)
    fresh.load_rows(rows)
    with pytest.raises(ValueError, match="extras/latent"):
        fresh.load_state_dict({name: value for name, value in state.items() if name != "extras/latent"})
    with pytest.raises(ValueError, match="fewer than"):
        replay.rows_since([0, 1000])


def test_a_smaller_replay_takes_the_last_rows_of_a_larger_one(world):
    feeder, small, large = world(2), Replay(world.spec, 20, 2), Replay(world.spec, 60, 2)
    feeder.feed([large, small], 30)
    fresh = Replay(world.spec, 20, 2)
    fresh.load_rows(large.rows_since([0, 0]))
    assert world.same(fresh.rows_since([0, 0]), small.rows_since([0, 0]))


def test_loaded_rows_do_not_inherit_the_extras_of_those_they_replace(world):
    feeder, ahead, behind = (
        world(1),
        Replay(world.spec, 10, extras=world.extras),
        Replay(world.spec, 10, extras=world.extras),
    )
    feeder.feed([ahead, behind], 10)
    _, index = behind.sample(100, 1)
    behind.write_back(index, {"latent": torch.ones(100, 1, 3)})
    feeder.feed([ahead], 10)
    behind.load_rows(ahead.rows_since([10]))
    assert behind.sample(100, 1)[0].extras["latent"].eq(0).all()
