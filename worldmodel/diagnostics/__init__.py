"""How good is a model, and what does it know."""

from worldmodel.diagnostics.collapse import (
    CollapseWatch,
    alignment,
    deviations,
    effective_rank,
    rows_of,
    still_dimensions,
    uniformity,
)
from worldmodel.diagnostics.disentanglement import DCI, dci, mig
from worldmodel.diagnostics.knowledge import Encoded, Knowledge, encode, mean_r2, targets_of, what_is_known
from worldmodel.diagnostics.open_loop import LatentErrors, OpenLoop, latent_open_loop, open_loop
from worldmodel.diagnostics.probes import ProbeScore, linear_probe, neighbour_probe, statistics_of
from worldmodel.diagnostics.recordings import Range, Summary, summarise
from worldmodel.diagnostics.surprise import surprise

__all__ = [
    "DCI",
    "CollapseWatch",
    "Encoded",
    "Knowledge",
    "LatentErrors",
    "OpenLoop",
    "ProbeScore",
    "Range",
    "Summary",
    "alignment",
    "dci",
    "deviations",
    "effective_rank",
    "encode",
    "latent_open_loop",
    "linear_probe",
    "mean_r2",
    "mig",
    "neighbour_probe",
    "open_loop",
    "rows_of",
    "statistics_of",
    "still_dimensions",
    "summarise",
    "surprise",
    "targets_of",
    "uniformity",
    "what_is_known",
]
