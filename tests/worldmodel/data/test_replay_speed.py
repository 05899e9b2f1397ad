"""The cost of the two hot paths. `python tests/worldmodel/data/test_replay_speed.py` prints the figures."""

import time

import torch

from worldmodel.data import ActionSpec, Entry, Replay, Spec, Steps

SPEC = Spec({"state": Entry((24,), "float32")}, ActionSpec(low=(-1.0,) * 6, high=(1.0,) * 6))


def steps(count, is_first):
    never = torch.zeros(count, dtype=torch.bool)
    return Steps(
        {"state": torch.randn(count, 24)}, torch.randn(count), never | is_first, never, never, torch.randn(count, 6)
    )


def median_microseconds(function, repetitions):
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e6


def filled(share, capacity=200_000, episode=200):
    replay = Replay(SPEC, capacity)
    rows, ends = int(share * capacity), torch.arange(int(share * capacity)) % episode
    flags = torch.zeros(rows, dtype=torch.bool)
    replay.load_rows(
        {
            "observation/state": torch.randn(rows, 24),
            "reward": torch.randn(rows),
            "is_first": ends == 0,
            "is_last": flags,
            "is_terminal": flags,
            "action": torch.randn(rows, 6),
            "ring_start": torch.tensor([0]),
            "ring_length": torch.tensor([rows]),
        }
    )
    return replay


def test_adding_and_sampling_are_quick_however_full_it_is():
    """The targets are 100 and 200 microseconds on a quiet core; five times that allows for a busy one."""
    nearly_empty, full = filled(0.01), filled(1.0)
    assert median_microseconds(lambda: full.add(steps(1, False), [0]), 200) < 500
    few, many = (
        median_microseconds(lambda replay=replay: replay.sample(256, 4), 200) for replay in (nearly_empty, full)
    )
    assert max(few, many) < 1000
    assert many < 3 * few + 200


def main():
    print(f"{torch.get_num_threads()} threads, 24 observations, 6 actions, float32")
    for num_envs in (1, 4, 64):
        replay, row = Replay(SPEC, 64_000, num_envs), steps(num_envs, False)
        cost = median_microseconds(lambda replay=replay, row=row: replay.add(row, range(len(row.reward))), 1000)
        print(f"add {num_envs} steps: {cost:.0f} us")
    for share in (0.01, 1.0):
        replay = filled(share, capacity=1_000_000)
        print(
            f"sample 256 x 4 of {len(replay):,} steps: {median_microseconds(lambda r=replay: r.sample(256, 4), 2000):.0f} us"
        )


if __name__ == "__main__":
    main()
