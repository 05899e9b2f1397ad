"""How good is a model."""

from worldmodel.diagnostics.open_loop import OpenLoop, open_loop

__all__ = ["OpenLoop", "open_loop"]
