"""Every registered objective, small, in both of its places: beside a dynamics model and behind an encoder alone."""

import contextlib
import dataclasses

import torch
from gymnasium import spaces
from small import CONFIG, CONTINUOUS, shaken
from torch import nn

from worldmodel import WorldModel, objectives
from worldmodel.data import Spec, Steps
from worldmodel.decoders import VectorDecoderConfig
from worldmodel.encoders import ConvolutionalEncoderConfig, PatchEncoderConfig, SeveralEncoderConfig, TextEncoderConfig
from worldmodel.objectives import Outcome
from worldmodel.scene import Scene

DECODER = VectorDecoderConfig(units=8, layers=1)
SMALL = {
    "barlow-twins": {"projector": (8, 6)},
    "byol": {"projector": (8, 6), "predictor": 8},
    "byol-explore": {"units": 8, "horizon": 3},
    "cpc": {"dim": 8, "horizon": 3},
    "denoising": {"decoder": DECODER},
    "inpainting": {"decoder": DECODER},
    "text-pairs": {"dim": 8, "text": TextEncoderConfig(units=8, layers=1, heads=2)},
    "tokens": {"codebooks": 2, "codes": 5, "dim": 3, "units": 8, "heads": 2, "layers": 1},
    "variational": {"decoder": DECODER, "dim": 4},
    "deepcluster": {"projector": (8, 6), "prototypes": 5, "clusterings": 2, "memory": 40, "refit_every": 2},
    "moco": {"projector": (8, 6), "queue": 70},
    "mae": {"share": 0.5, "units": 8, "layers": 1, "heads": 2},
    "masked-trajectory": {"units": 8, "heads": 2, "layers": 1},
    "next-frame": {"decoder": DECODER, "units": 8},
    "next-latent": {"units": 8},
    "ntxent": {"projector": (8, 6)},
    "prototypes": {"prototypes": 6, "dim": 4, "frozen_updates": 0},
    "relative-position": {"units": 8},
    "rotation": {"units": 8},
    "sigreg": {"projector": (8, 6), "slices": 16},
    "simsiam": {"projector": (8, 6), "predictor": 8},
    "spatial-cpc": {"dim": 8, "heads": 2, "layers": 1},
    "spr": {"units": 8, "horizon": 3},
    "swav": {"projector": (8, 6), "prototypes": 5, "frozen_updates": 0},
    "vicreg": {"projector": (8, 6)},
    "wmse": {"projector": (8, 6)},
}
OF_IMAGES = ("mae", "relative-position", "rotation", "spatial-cpc")
ENCODERS_OWN = ("masked-trajectory", *OF_IMAGES)
"""What the encoder learns from alone: latent features are not read."""
CAMERA = Spec.from_spaces(spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 1), "uint8")}), spaces.Box(-1, 1, (2,)))
SPOKEN = Spec.from_spaces(spaces.Dict(state=spaces.Box(-1, 1, (3,)), mission=spaces.Text(6)), spaces.Box(-1, 1, (2,)))
NAMES = objectives.objectives.names()
ONLY_BESIDE_DYNAMICS = ("barlow", "consistency", "infonce", "prototypes")
PLACES = [(name, True) for name in NAMES] + [(name, False) for name in NAMES if name not in ONLY_BESIDE_DYNAMICS]


@contextlib.contextmanager
def drawn_alike():
    """What is drawn at random is the same for every row, so that it is also for a part of a batch what it is for the whole."""
    real, calls = {name: getattr(torch, name) for name in ("rand", "randn", "randint", "randn_like")}, []

    def draw(name, *arguments, size, **options):
        if "generator" in options:
            return real[name](*arguments, size, **options)
        calls.append(name)
        generator = torch.Generator().manual_seed(len(calls))
        options.pop("device", None)
        return real[name](*arguments, (1, *size[1:]), generator=generator, **options).expand(size).contiguous()

    def sized(name):
        return lambda *size, **options: draw(name, size=size[0] if isinstance(size[0], tuple) else size, **options)

    torch.rand, torch.randn = sized("rand"), sized("randn")
    torch.randn_like = lambda like: draw("randn", size=tuple(like.shape), dtype=like.dtype)
    torch.randint = lambda low, high, size, **options: draw("randint", low, high, size=size, **options)
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(torch, name, function)


class Place(nn.Module):
    """An encoder, dynamics or none, a target encoder, and one objective whose weights all matter."""

    def __init__(self, name: str, with_dynamics: bool = True, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sees = name in OF_IMAGES
        self.reads = name == "text-pairs"
        spec = CAMERA if self.sees else SPOKEN if self.reads else CONTINUOUS
        config = CONFIG
        if self.reads:
            several = SeveralEncoderConfig(vectors=CONFIG.encoder, texts=TextEncoderConfig(units=8, layers=1, heads=2))
            config = dataclasses.replace(CONFIG, encoder=several)
        if self.sees:
            patches, images = (
                PatchEncoderConfig(patch=4, units=8, layers=1, heads=2),
                ConvolutionalEncoderConfig(depth=2),
            )
            config = dataclasses.replace(CONFIG, encoder=patches if name == "mae" else images)
        one = shaken(WorldModel(config, spec))
        self.encoder, self.dynamics = one.encoder, one.dynamics if with_dynamics else None
        self.target_encoder = shaken(WorldModel(config, spec), seed=1).encoder.requires_grad_(False)
        context = {"spec": spec, "embed_dim": self.encoder.embed_dim}
        context["patches"] = self.encoder.patches
        context |= {"feature_dim": one.feature_dim} if with_dynamics else {}
        self.objective = objectives.make(name, options=SMALL.get(name, {}) | options, **context)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.objective.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))

    def scene(self, steps: Steps) -> Scene:
        if self.reads:  # a few different texts, one for each sequence
            numbers = (steps.observation["state"][:, :1] * 2).abs().round().to(torch.int16) + 1
            steps = steps._replace(
                observation=steps.observation | {"mission": numbers.expand(-1, steps.reward.shape[1], 3)}
            )
        if self.sees:
            brightness = torch.sigmoid(steps.observation["state"] @ torch.linspace(-3, 3, 192).sin().view(3, 64))
            camera = (255 * brightness).to(torch.uint8).unflatten(-1, (8, 8, 1))
            steps = steps._replace(observation={"camera": camera})
        return Scene(self.encoder, self.dynamics, steps, target_encoder=self.target_encoder)

    def forward(self, steps: Steps) -> Outcome:
        return self.objective(self.scene(steps))

    def loss(self, steps: Steps) -> torch.Tensor:
        """The sum of its losses; views and slices are drawn alike at each call."""
        torch.manual_seed(1)
        return sum(self(steps).losses.values())

    def learned(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def after_update(self, pending: dict[str, torch.Tensor]) -> None:
        self.objective.after_update(pending, 0.5)


def with_history(place: Place, steps: Steps, updates: int = 3) -> Place:
    """The place after some updates' pending writes: queues and memories are filled, in part."""
    for _ in range(updates):
        place.after_update(place(steps).pending)
    return place


def gradients(place: Place, steps: Steps) -> dict[str, torch.Tensor]:
    place.zero_grad()
    place.loss(steps).backward()
    return {name: p.grad.clone() for name, p in place.learned().items() if p.grad is not None}
