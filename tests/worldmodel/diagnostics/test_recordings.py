import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldmodel.data import Spec, Steps
from worldmodel.data.recording import Recorder, Recording
from worldmodel.diagnostics import summarise
from worldmodel.visualize import contact_sheet

SPEC = Spec.from_spaces(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))


def test_a_summary_counts_what_is_recorded_and_no_action_that_was_never_executed(tmp_path):
    recorder = Recorder(tmp_path, SPEC, 1)
    for number, length in enumerate((3, 5)):
        first, last = torch.zeros(length).bool(), torch.zeros(length).bool()
        first[0] = last[-1] = True
        seen = torch.stack([torch.arange(length) - 2.0 * number, torch.ones(length)], dim=1)
        reward, action = torch.full((length,), 1.0 + number), torch.full((length, 1), 0.5)
        reward[0], action[-1] = 0.0, 1e3
        recorder.add_episode(Steps({"state": seen}, reward, first, last, last & (number == 1), action))
    summary = summarise(Recording(tmp_path))
    assert summary.steps == 8 and summary.lengths.tolist() == [2, 4] and summary.terminated == 1
    assert summary.returns.tolist() == [2.0, 8.0]
    everything = np.concatenate([np.arange(3.0), np.arange(5.0) - 2, np.ones(8)])
    assert summary.ranges["state"] == (-2.0, everything.mean(), 2.0, 1, 2)
    assert summary.ranges["action"] == (0.5, 0.5, 0.5, 1, 1) and summary.ranges["reward"].low == 1.0
    with pytest.raises(ValueError, match="holds no whole episode"):
        Recorder(tmp_path / "empty", SPEC, 1)
        summarise(Recording(tmp_path / "empty"))


def test_a_contact_sheet_shows_the_first_and_the_last_picture_of_every_episode():
    films = [torch.full((9, 8, 8, 3), 60 * (k + 1), dtype=torch.uint8) for k in range(2)]
    films[1][-1] = 250
    sheet = contact_sheet(films, ["one", "two"], columns=3)
    assert sheet.dtype == np.uint8 and sheet.shape == (2 * (64 + 28 + 4) + 4, 3 * 68 + 4, 3)
    middles = [
        [sheet[4 + row * 96 + 14 + 32, 4 + column * 68 + 32].tolist() for column in range(3)] for row in range(2)
    ]
    assert middles == [[[60] * 3] * 3, [[120] * 3, [120] * 3, [250] * 3]]
