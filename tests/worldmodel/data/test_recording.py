import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Spec, Steps
from worldmodel.data.recording import Recorder, Recording

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
