"""Each objective, alone behind an encoder of pictures, learns in a second or two where a dot is."""

import pytest
import torch
from dot import SPEC, WORDED, recorded, told
from everyone import ONLY_BESIDE_DYNAMICS

from worldmodel import Representation, dynamics, encoders, objectives
from worldmodel.decoders import ImageDecoderConfig
from worldmodel.diagnostics import linear_probe, surprise
from worldmodel.encoders import ConvolutionalEncoderConfig, TextEncoderConfig
from worldmodel.objectives import BarlowConfig
from worldmodel.representation import RepresentationConfig

DECODER = ImageDecoderConfig(depth=4, kernel=3, units=64)
OPTIONS = {
    "byol": {"predictor": 128},
    "byol-explore": {"units": 64, "horizon": 3},
    "cpc": {"dim": 64, "horizon": 3},
    "curl": {"projector": (50,)},
    "deepcluster": {"prototypes": 64, "memory": 2048, "refit_every": 20},
    "masked-trajectory": {"units": 64},
    "moco": {"queue": 1024},
    "next-latent": {"units": 64},
    "prototypes": {"prototypes": 64, "frozen_updates": 30},
    "relative-position": {"units": 64},
    "rotation": {"units": 64},
    "sigreg": {"slices": 128},
    "simsiam": {"predictor": 32},
    "spatial-cpc": {"dim": 64},
    "spr": {"units": 64},
    "swav": {"prototypes": 64, "frozen_updates": 30},
    "text-pairs": {"dim": 64, "text": TextEncoderConfig(units=32, layers=1, heads=2)},
    "tokens": {"codebooks": 4, "codes": 64, "units": 64},
    "variational": {"beta": 0.1, "dim": 8},
    "wmse": {"projector": (128, 32)},
}
# A masked autoencoder learns its tokens; their mean, which is the embedding, is hardly better for a linear reader in this time,
# nor is it in its paper, where linear probes stay far behind fine-tuning (arXiv 2111.06377, figure 9).
DYNAMICS = (
    ("rssm", {"deterministic": 64, "hidden": 32, "groups": 8, "classes": 8}),
    ("simnorm", {"latent_dim": 64, "units": 64}),
)
NAMES = [name for name in objectives.objectives.names() if name not in (*ONLY_BESIDE_DYNAMICS, "mae")]


def probe(encoder) -> float:
    """R² of the dot's position, told by a linear probe of 20 labelled steps, in other episodes."""
    with torch.no_grad():
        (few, place), (many, truth) = (recorded(20, 16, seed=1), recorded(30, 16, seed=2))
        train = encoder(few.observation).flatten(0, 1)[::16], place.flatten(0, 1)[::16]
        return linear_probe(train, (encoder(many.observation).flatten(0, 1), truth.flatten(0, 1))).mean


@pytest.mark.parametrize("name", [*NAMES, *ONLY_BESIDE_DYNAMICS])
def test_a_short_training_beats_a_random_encoder(name):
    torch.manual_seed(0)
    encoder = encoders.make("convolutional", options={"depth": 4, "kernel": 3}, spec=SPEC)
    options, fields = dict(OPTIONS.get(name, {})), type(objectives.objectives.config(name)).__dataclass_fields__
    if "projector" in fields:
        options.setdefault("projector", (128, 64))
    if "decoder" in fields:
        options["decoder"] = DECODER
    context = {"spec": WORDED if name == "text-pairs" else SPEC, "embed_dim": encoder.embed_dim}
    beside = None
    if name in ONLY_BESIDE_DYNAMICS:
        kind, small = DYNAMICS[name == "consistency"]
        beside = dynamics.make(kind, options=small, embed_dim=encoder.embed_dim, action_dim=SPEC.action.dim)
        context |= {"feature_dim": beside.feature_dim, "deterministic_dim": beside.deterministic_dim}
    one = Representation(encoder, [objectives.make(name, options=options, **context)], beside)
    optimiser = torch.optim.Adam([p for p in one.parameters() if p.requires_grad], 1e-3)
    (steps, place), random = recorded(100, 16, seed=0), probe(encoder)
    updates = 40 if name == "spatial-cpc" else 60  # which encodes nine patches of each image
    for update in range(updates):
        start = int(torch.randint(0, 9, ()))
        chosen, window = torch.randint(0, 100, (32,)), slice(start, start + 8)
        batch = steps.select(chosen).select((slice(None), window))
        if name == "text-pairs":
            batch.observation["mission"] = told(place[chosen, window])
        outcome = one(one.scene(batch))
        optimiser.zero_grad()
        sum(outcome.losses.values()).backward()
        optimiser.step()
        one.after_update(outcome.pending, update / updates)
    assert probe(encoder) > random + 0.08, f"a random encoder gives {random:.2f}"


def test_a_jump_that_no_action_makes_stands_out_as_a_surprise():
    torch.manual_seed(0)
    encoder, recurrent = ConvolutionalEncoderConfig(depth=4, kernel=3), dynamics.RSSMConfig(**DYNAMICS[0][1])
    one = Representation.from_config(RepresentationConfig((BarlowConfig(),), encoder, recurrent), SPEC)
    optimiser, steps = torch.optim.Adam(one.parameters(), 1e-3), recorded(100, 16, seed=0)[0]
    calm, elsewhere = recorded(20, 16, seed=3)[0], recorded(20, 16, seed=4)[0]
    image = torch.cat([calm.observation["image"][:, :8], elsewhere.observation["image"][:, 8:]], dim=1)
    before = surprise(one, calm._replace(observation={"image": image}))
    for _ in range(100):
        outcome = one(one.scene(steps.select(torch.randint(0, 100, (16,)))))
        optimiser.zero_grad()
        sum(outcome.losses.values()).backward()
        optimiser.step()
    after, quiet = surprise(one, calm._replace(observation={"image": image})), surprise(one, calm)
    assert before[:, 8].mean() < 1.3 * before[:, 1:].mean(), "of a random model it does not"
    assert after[:, 8].mean() > 2.5 * quiet[:, 1:].mean()
