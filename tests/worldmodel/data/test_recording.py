import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Entry, Spec, Steps, recording
from worldmodel.data import mapped as mapped_module
from worldmodel.data.recording import Recorder, Recording
from worldmodel.data.storage import unflatten

SPEC = Spec.from_spaces(spaces.Dict(pose=spaces.Box(-1, 1, (2,)), mode=spaces.Discrete(3)), spaces.Box(-1, 1, (1,)))


def step(number: float, first: bool = False, last: bool = False) -> Steps:
    """A step [1] that says its number."""
    observation = {"pose": torch.full((1, 2), float(number)), "mode": torch.tensor([[0, 1, 0]], dtype=torch.uint8)}
    flags = (torch.tensor([flag]) for flag in (first, last, False))
    return Steps(observation, torch.tensor([float(number)]), *flags, torch.full((1, 1), float(number)))


def record(folder, numbers, env=0, num_envs=1):
    recorder = Recorder(folder, SPEC, num_envs, {"task": "made up"})
    for t, number in enumerate(numbers):
        recorder.add(step(number, first=t == 0, last=t == len(numbers) - 1), [env])
    return recorder


def test_episodes_come_back_whole_and_in_order(tmp_path):
    record(tmp_path, [1, 2, 3])
    assert record(tmp_path, [7, 8]).episodes == 2, "a second recorder goes on"
    recording = Recording(tmp_path)
    assert recording.spec == SPEC and recording.facts == {"task": "made up"} and len(recording) == 2
    first, second = recording.episodes()
    assert first.reward.tolist() == [1, 2, 3] and second.observation["pose"][:, 0].tolist() == [7, 8]
    assert first.is_first.tolist() == [True, False, False] and first.is_last.tolist() == [False, False, True]
    assert first.observation["mode"].dtype is torch.uint8
    assert [steps.reward.tolist() for steps in recording.episodes([1])] == [[7, 8]]


def test_environments_are_kept_apart_and_what_was_cut_is_no_episode(tmp_path):
    recorder = Recorder(tmp_path, SPEC, 2)
    recorder.add(step(1, first=True), [0])
    recorder.add(step(10, first=True), [1])
    recorder.add(step(2), [0])
    recorder.add(step(5, first=True), [0])  # without an end before it
    recorder.add(step(11, last=True), [1])
    recorder.add(step(6, last=True), [0])
    assert [steps.reward.tolist() for steps in Recording(tmp_path).episodes()] == [[10, 11], [5, 6]]


def test_an_episode_half_written_is_not_there(tmp_path):
    record(tmp_path, [1, 2])
    (tmp_path / ".000001.safetensors").write_bytes(b"half")
    assert len(Recording(tmp_path)) == 1
    assert record(tmp_path, [3, 4]).episodes == 2
    assert [steps.reward.tolist() for steps in Recording(tmp_path).episodes()] == [[1, 2], [3, 4]]


def test_a_replay_of_it_gives_windows_inside_episodes(tmp_path):
    record(tmp_path, [1, 2, 3, 4])
    record(tmp_path, [11, 12, 13])
    replay = Recording(tmp_path).replay()
    steps, _ = replay.sample(64, 3)
    assert {tuple(row) for row in steps.reward.tolist()} == {(1, 2, 3), (2, 3, 4), (11, 12, 13)}
    steps, _ = Recording(tmp_path).replay([1]).sample(8, 2)
    assert steps.reward.min() == 11


def recorded_pictures(folder, episodes: int = 3, length: int = 60) -> Recording:
    """Pictures of noise; rewards count the steps of all episodes."""
    spec = Spec.from_spaces(spaces.Box(0, 255, (64, 64, 3), np.uint8), spaces.Box(-1, 1, (1,)))
    recorder, generator = Recorder(folder, spec, 1), torch.Generator().manual_seed(0)
    numbers = torch.arange(episodes * length).view(episodes, length)
    for reward in numbers.float():
        image = torch.randint(256, (length, 64, 64, 3), generator=generator, dtype=torch.uint8)
        step = torch.arange(length)
        no, action = torch.zeros(length, dtype=torch.bool), torch.zeros(length, 1)
        recorder.add_episode(Steps({"image": image}, reward, step == 0, step == length - 1, no, action))
    return Recording(folder)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("maps", [4096, 2])
def test_mapped_from_disk_it_gives_the_windows_that_it_gives_from_memory(tmp_path, monkeypatch, across, maps):
    for module in (recording, mapped_module):
        monkeypatch.setattr(module, "MAPS", maps)  # fewer at once than there are episodes
    for numbers in ([1, 2, 3, 4], [11, 12, 13], [21, 22, 23, 24, 25, 26]):
        record(tmp_path, numbers)
    extras = {"latent": Entry((2,), "float32")}
    replays = [Recording(tmp_path).replay(mapped=mapped, extras=extras, seed=3) for mapped in (False, True)]
    assert len(replays[1]) == 13
    assert replays[0].newest(13).reward.flatten().tolist() == [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 24, 25, 26]
    for _ in range(5):
        (steps, index), (found, found_index) = (replay.sample(16, 3, across_episodes=across) for replay in replays)
        assert torch.equal(index, found_index)
        for expected, value in zip(flat(steps), flat(found), strict=True):
            assert torch.equal(expected, value) and value.dtype is expected.dtype
        for replay in replays:
            replay.write_back(index, {"latent": steps.observation["pose"] + 100})
    assert found.extras["latent"].any() and torch.equal(replays[0].newest(4).reward, replays[1].newest(4).reward)
    state = replays[1].state_dict()
    again = Recording(tmp_path).replay(mapped=True, extras=extras)
    again.load_state_dict(state)
    assert torch.equal(again.sample(8, 3)[0].extras["latent"], replays[1].sample(8, 3)[0].extras["latent"])
    with pytest.raises(ValueError, match="takes no more steps: load it into memory"):
        again.add(step(1), [0])


def flat(steps: Steps) -> list[torch.Tensor]:
    return [*steps.observation.values(), *steps[1:6], *steps.extras.values()]


def test_a_window_of_pictures_is_read_in_a_millisecond_however_long_the_episodes_are(tmp_path):
    recorded = recorded_pictures(tmp_path, episodes=2, length=1_000)
    window = recorded.window(1, 5, 50)
    assert window.reward.tolist() == list(range(1_005, 1_055)) and window.observation["image"].shape == (50, 64, 64, 3)
    replay, times = recorded.replay(mapped=True), []  # what training reads
    for _ in range(20):
        began = time.perf_counter()
        steps, _ = replay.sample(1, 50)
        times.append(time.perf_counter() - began)
        assert steps.observation["image"].shape == (1, 50, 64, 64, 3) and bool((steps.reward.diff() == 1).all())
    # Less than half of it alone on the machine; the least of twenty, since tests run beside other things. Whole episodes,
    # of 12 MB each, would take several milliseconds.
    assert min(times) < 1e-3, times


def test_recordings_of_the_same_spaces_are_merged(tmp_path):
    record(tmp_path / "one", [1, 2])
    record(tmp_path / "two", [3, 4])
    record(tmp_path / "two", [5, 6])
    one = Recording(tmp_path / "one")
    assert one.merge(Recording(tmp_path / "two")) == 2
    assert [steps.reward.tolist() for steps in Recording(tmp_path / "one").episodes()] == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(ValueError, match="is a recording of other spaces than"):
        one.merge(recorded_pictures(tmp_path / "three", 1, 3))


def test_copies_are_said_when_they_are_merged(tmp_path, caplog):
    record(tmp_path / "one", [1, 2])
    record(tmp_path / "two", [1, 2])
    record(tmp_path / "two", [1, 3])
    one = Recording(tmp_path / "one")
    assert one.merge(Recording(tmp_path / "two")) == 2
    assert [steps.reward.tolist() for steps in Recording(tmp_path / "one").episodes()] == [[1, 2], [1, 2], [1, 3]]
    assert "1 of the episodes of" in caplog.text and "recorded with one seed, they are copies" in caplog.text


def test_a_merging_that_was_interrupted_says_so_and_goes_on_without_taking_anything_twice(
    tmp_path, monkeypatch, caplog
):
    record(tmp_path / "all", [1, 2])
    for numbers in ([3, 4], [3, 4], [5, 6]):
        record(tmp_path / "two", numbers)
    copy, copied = shutil.copyfile, []

    def interrupted(file, target):
        if copied:
            raise KeyboardInterrupt
        copied.append(file)
        return copy(file, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfile", interrupted)
        Recording(tmp_path / "all").merge(Recording(tmp_path / "two"))
    assert not caplog.text
    all_of_them = Recording(tmp_path / "all")
    assert len(all_of_them) == 2 and f"lacks episodes of {tmp_path / 'two'}" in caplog.text
    caplog.clear()
    assert all_of_them.merge(Recording(tmp_path / "two")) == 2, "alike they may be, and are still two"
    for _ in range(2):
        assert all_of_them.merge(Recording(tmp_path / "two")) == 0
    expected = [[1, 2], [3, 4], [3, 4], [5, 6]]
    assert [steps.reward.tolist() for steps in Recording(tmp_path / "all").episodes()] == expected
    assert Recording(tmp_path / "all").made == [{"task": "made up"}] and not caplog.text


def test_how_a_part_was_made_is_noted_once_as_it_comes_back(tmp_path):
    for seed in (0, 0, 7, 0):
        Recorder(tmp_path, SPEC, 1, {"hide": ("velocity",), "seed": seed})
    made = Recording(tmp_path).made
    assert made == [{"hide": ["velocity"], "seed": 0}, {"hide": ["velocity"], "seed": 7}]


def test_processes_of_one_number_in_two_containers_write_into_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    write, others = recording.write_tensors, [record(tmp_path, [1, 2])]

    def meanwhile(path, tensors, told):
        write(path, tensors, told)
        if others:
            others.pop().add_episode(unflatten(tensors | {"reward": tensors["reward"] + 2}))

    monkeypatch.setattr(recording, "write_tensors", meanwhile)
    record(tmp_path, [3, 4])
    found = sorted(steps.reward.tolist() for steps in Recording(tmp_path).episodes())
    assert found == [[1, 2], [3, 4], [5, 6]]


def test_nothing_is_replaced_where_an_episode_was_removed_or_somebody_else_writes(tmp_path):
    one, other = record(tmp_path, [1, 2]), record(tmp_path, [3, 4])
    for recorder, numbers in ((one, [5, 6]), (other, [7, 8]), (one, [9, 10])):
        for t, number in enumerate(numbers):
            recorder.add(step(number, first=t == 0, last=t == 1), [0])
    kept = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert [steps.reward.tolist() for steps in Recording(tmp_path).episodes()] == kept
    Recording(tmp_path).files[1].unlink()
    record(tmp_path, [11, 12])
    del kept[1]
    assert [steps.reward.tolist() for steps in Recording(tmp_path).episodes()] == [*kept, [11, 12]]
    assert not list(tmp_path.glob(".*.safetensors"))
    with pytest.raises(ValueError, match="cannot be merged with itself"):
        Recording(tmp_path).merge(Recording(tmp_path))


def test_killed_at_any_moment_it_holds_whole_episodes_alone(tmp_path):
    program = """
import sys
sys.path.insert(0, sys.argv[2])
from test_recording import record
print("begun", flush=True)
for number in range(10_000):
    record(sys.argv[1], [number] * 50)
"""
    for wait in (0.02, 0.05, 0.11):
        command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        for episode in Recording(tmp_path).episodes():
            assert len(episode.reward) == 50 and episode.is_last.tolist() == [False] * 49 + [True]
    assert len(Recording(tmp_path)) > 3


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no recording\.json: give the folder of a recording"):
        Recording(tmp_path)
    record(tmp_path, [1, 2])
    other = Spec.from_spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    with pytest.raises(ValueError, match="is a recording of other spaces: Observation 'pose' is missing"):
        Recorder(tmp_path, other, 1)
    assert Recording(tmp_path).observing(["mode"]).observation.keys() == {"mode"}
    with pytest.raises(ValueError, match="has no observation 'camera': choose from pose, mode"):
        Recording(tmp_path).observing(["camera"])
    broken = next(Recording(tmp_path).episodes())
    broken.observation["pose"][1, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite at step 1, in .*pose'"):
        Recorder(tmp_path, SPEC, 1).add_episode(broken)
    assert len(Recording(tmp_path)) == 1


def test_two_processes_that_begin_at_once_are_both_noted(tmp_path):
    command = "import sys; sys.path[:0] = sys.argv[3:]; from test_recording import SPEC, Recorder; "
    command += "Recorder(sys.argv[1], SPEC, 1, {'seed': int(sys.argv[2])})"
    paths = [str(Path(__file__).parent), *sys.path]
    started = [subprocess.Popen([sys.executable, "-c", command, str(tmp_path), str(n), *paths]) for n in range(4)]
    assert [one.wait(120) for one in started] == [0] * 4
    assert sorted(facts["seed"] for facts in Recording(tmp_path).made) == [0, 1, 2, 3]
