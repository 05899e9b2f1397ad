"""The step record, its conventions, and where it comes from and goes to: streams of environments and replay."""

from worldmodel.data.actions import ActionSpec
from worldmodel.data.replay import Replay
from worldmodel.data.spec import Entry, Spec
from worldmodel.data.steps import Steps
from worldmodel.data.stream import Arrival, StepStream

__all__ = ["ActionSpec", "Arrival", "Entry", "Replay", "Spec", "StepStream", "Steps"]
