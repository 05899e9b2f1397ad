"""The step record, its conventions, and where it comes from and goes to: streams of environments and replay."""

from worldmodel.data.actions import ActionSpec
from worldmodel.data.recording import Recorder, Recording, replay_of
from worldmodel.data.replay import Replay
from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps
from worldmodel.data.stream import Arrival, StepStream

__all__ = [
    "ActionSpec",
    "Arrival",
    "Entry",
    "Recorder",
    "Recording",
    "Replay",
    "Spec",
    "StepStream",
    "Steps",
    "replay_of",
]
