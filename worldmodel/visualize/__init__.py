"""How does it look: what a model imagines, as films and figures; for models without a decoder as well."""

from worldmodel.visualize.contact_sheet import contact_sheet
from worldmodel.visualize.imagination import Imagination, imagine
from worldmodel.visualize.inspection import Inspection, inspect
from worldmodel.visualize.latent_map import latent_map
from worldmodel.visualize.windows import window_indices, windows

__all__ = [
    "Imagination",
    "Inspection",
    "contact_sheet",
    "imagine",
    "inspect",
    "latent_map",
    "window_indices",
    "windows",
]
