"""How good is a model, and what does it know."""

from worldmodel.diagnostics.collapse import (
    CollapseWatch,
    alignment,
    deviations,
    effective_rank,
    rows_of,
    uniformity,
)
from worldmodel.diagnostics.open_loop import OpenLoop, open_loop
from worldmodel.diagnostics.probes import ProbeScore, linear_probe, neighbour_probe

__all__ = [
    "CollapseWatch",
    "OpenLoop",
    "ProbeScore",
    "alignment",
    "deviations",
    "effective_rank",
    "linear_probe",
    "neighbour_probe",
    "open_loop",
    "rows_of",
    "uniformity",
]
