"""Models for machines without this library: the encoder, and one step of belief, as graphs of PyTorch or ONNX.

The step of belief takes no draw: what is stochastic takes its most probable value.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.dynamics import Dynamics
from worldmodel.encoders import Encoder
from worldmodel.representation import Representation
from worldmodel.snapshots import check_replaceable, write_json, writing

ENCODER, BELIEF, DESCRIPTION = "encoder", "belief", "export.json"
FILES = (DESCRIPTION, *(f"{name}.{suffix}" for name in (ENCODER, BELIEF) for suffix in ("pt2", "onnx")))
CHECKED = (1, 3)
"""Numbers of environments for which the exported numbers are compared."""


class ExportError(RuntimeError):
    """The exported numbers are not the model's."""


class BeliefStep(nn.Module):
    """One step of belief as a function of tensors."""

    def __init__(self, encoder: Encoder, dynamics: Dynamics) -> None:
        super().__init__()
        self.encoder, self.dynamics = encoder, dynamics
        self._state = type(dynamics.initial(1))

    def forward(
        self, observation: dict[str, Tensor], state: tuple[Tensor, ...], action: Tensor, is_first: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Observations [N, ...], the last state [N, ...], the last action [N, A], is_first [N] → features [N, F], the state."""
        after = self.dynamics.update(self._state(*state), action, self.encoder(observation), is_first, draw=False)
        return self.dynamics.features(after).float(), tuple(after)


class EncoderStep(nn.Module):
    """An encoder as a function of tensors."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Observations [N, ...] → embeddings [N, E]."""
        return self.encoder(observation).float()


def export(model: Representation, folder: str | Path, *, onnx: bool = False) -> dict[str, float]:
    """Write ``encoder.pt2`` and ``belief.pt2`` (``torch.export``), with ``onnx`` the same as ``.onnx``, and what they take.

    The number of environments is free. Observations come in their stored form (``export.json`` tells names, shapes and types),
    actions as vectors in [-1, 1] or one-hot; a state begins as zeros, with is_first. An encoder alone has no belief.

    Returns:
        The greatest difference from the model by file, over some made-up inputs.

    Raises:
        ExportError: it is more than rounding.
        ImportError: ONNX is asked for, and its packages are not installed.
        ValueError: a representation that was not told what it observes; a folder that holds anything but an earlier export.
    """
    check_replaceable(Path(folder), FILES)
    spec = model.spec
    if spec is None:
        raise ValueError("The model was not told what it observes: give one of worldmodel.load or load_representation.")
    model = copy.deepcopy(model).eval().cpu()
    steps: dict[str, nn.Module] = {ENCODER: EncoderStep(model.encoder)}
    if model.dynamics is not None:
        steps[BELIEF] = BeliefStep(model.encoder, model.dynamics)
    differences: dict[str, float] = {}
    with writing(Path(folder)) as beside, torch.no_grad():
        for name, step in steps.items():
            dynamics = model.dynamics if name == BELIEF else None
            examples = {count: _example(spec, dynamics, count) for count in (*CHECKED, 2)}
            program = torch.export.export(step, examples[2], dynamic_shapes=_dynamic(examples[2]))
            torch.export.save(program, beside / f"{name}.pt2")
            differences[f"{name}.pt2"] = _difference(step, _graph_runner(beside / f"{name}.pt2"), examples)
            if onnx:
                path = beside / f"{name}.onnx"
                _write_onnx(program, path)
                differences[path.name] = _difference(step, _onnx_runner(path), examples)
        write_json(beside / DESCRIPTION, _description(model, spec))
    return differences


def _example(spec: Spec, dynamics: Dynamics | None, count: int) -> tuple[Any, ...]:
    """Made-up inputs of so many environments: of a step of belief, or of an encoder alone."""
    generator = torch.Generator().manual_seed(count)
    observation = {
        key: _made_up(entry.shape, entry.torch_dtype, count, generator) for key, entry in spec.observation.items()
    }
    if dynamics is None:
        return (observation,)
    state = tuple(0.1 * torch.randn(part.shape, generator=generator) for part in dynamics.initial(count))
    first = torch.arange(count) % 3 == 0
    return observation, state, spec.action.random(count, generator), first


def _made_up(shape: tuple[int, ...], dtype: torch.dtype, count: int, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(count, *shape, generator=generator, dtype=dtype)
    most = 256 if dtype is torch.uint8 and len(shape) == 3 else 2
    return torch.randint(most, (count, *shape), generator=generator).to(dtype)


def _dynamic(example: tuple[Any, ...]) -> Any:
    """The first dimension of every input is the number of environments."""
    batch = torch.export.Dim("environments", min=1, max=4096)
    return torch.utils._pytree.tree_map(lambda _: {0: batch}, example)


def _difference(step: nn.Module, run: Callable[[Any], Any], examples: dict[int, Any]) -> float:
    greatest = 0.0
    for count in CHECKED:
        expected = torch.utils._pytree.tree_leaves(step(*examples[count]))
        found = torch.utils._pytree.tree_leaves(run(examples[count]))
        for one, other in zip(expected, map(torch.as_tensor, found), strict=True):
            if one.shape != other.shape:
                raise ExportError(
                    f"The exported {type(step).__name__} gives {list(other.shape)}, not {list(one.shape)}."
                )
            distance = float((one - other).abs().max())
            greatest = max(greatest, distance) if math.isfinite(distance) else math.inf
    if greatest > 1e-3:
        raise ExportError(
            f"The exported {type(step).__name__} differs from the model by {greatest:.2g}: nothing was written."
        )
    return greatest


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  (which checks it)
        import onnxscript  # noqa: F401  (by which torch writes it)
    except ImportError as error:
        raise ImportError(
            "ONNX needs the packages onnx, onnxscript and onnxruntime: in the project's folder, pip install --editable '.[onnx]'."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, dynamo=True, external_data=False, verbose=False).save(path)  # type: ignore[union-attr]


def _graph_runner(path: Path) -> Callable[[Any], Any]:
    graph = torch.export.load(path).module()
    return lambda given: graph(*given)


def _onnx_runner(path: Path) -> Callable[[Any], list[np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(given: Any) -> list[np.ndarray]:
        leaves = [leaf.numpy() for leaf in torch.utils._pytree.tree_leaves(given)]
        return session.run(None, dict(zip(names, leaves, strict=True)))

    return run


def _description(model: Representation, spec: Spec) -> dict[str, Any]:
    """What the graphs take and give, for whoever calls them."""
    described: dict[str, Any] = {
        "observation": {name: {"shape": list(e.shape), "dtype": e.dtype} for name, e in spec.observation.items()},
        "embedding": model.encoder.embed_dim,
        "spec": spec.to_dict(),
    }
    if model.dynamics is not None:
        state = {name: list(part.shape[1:]) for name, part in model.dynamics.initial(1)._asdict().items()}
        described |= {"state": state, "action": spec.action.dim, "features": model.feature_dim}
    return described
