import json

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small import CONTINUOUS, SEVERAL_DISCRETE, model
from test_belief import RECURRENT

import worldmodel
from worldmodel.data import Spec
from worldmodel.dynamics import GaussianRSSMConfig
from worldmodel.encoders import (
    ConvolutionalEncoderConfig,
    PatchEncoderConfig,
    SeveralEncoderConfig,
    TextEncoderConfig,
    VectorEncoderConfig,
)
from worldmodel.export import ExportError, export
from worldmodel.objectives import VICRegConfig
from worldmodel.representation import Representation, RepresentationConfig

BOTH = Spec.from_spaces(
    spaces.Dict(camera=spaces.Box(0, 255, (16, 16, 3), np.uint8), pose=spaces.Box(-1, 1, (3,))), spaces.Box(-1, 1, (2,))
)
WORDED = Spec.from_spaces(spaces.Dict(pose=spaces.Box(-1, 1, (3,)), mission=spaces.Text(12)), spaces.Discrete(3))
DYNAMICS = {"simnorm": {}, "rssm": {"dynamics": RECURRENT}, "gaussian": {"dynamics": GaussianRSSMConfig(8, 4, 8)}}


def exported_belief(folder, one, steps: int = 4):
    """Features [T, N, F] of some made-up steps, by the exported graph and by the library."""
    run = torch.export.load(folder / "belief.pt2").module()
    count, generator = 5, torch.Generator().manual_seed(0)
    description = json.loads((folder / "export.json").read_text())
    state = tuple(torch.zeros(count, *shape) for shape in description["state"].values())
    belief, found, expected = one.belief(count, draw=False), [], []
    action = torch.zeros(count, description["action"])
    for t in range(steps):
        first = torch.full((count,), t == 0)
        first[2] |= t == 2
        told, entries = {}, one.spec.observation
        for name, entry in entries.items():
            told[name] = torch.rand(count, *entry.shape, generator=generator).numpy()
            if entry.kind == "image":
                told[name] = (255 * told[name]).astype(np.uint8)
            elif entry.text:
                told[name] = np.array([f"go to door {t + row}" for row in range(count)])
        shown = {name: entry.encode(told[name]) for name, entry in entries.items()}
        features, state = run(shown, state, action, first)
        found.append(features)
        expected.append(belief.update(told, one.spec.action.to_environment(action) if t else None, first))
        action = one.spec.action.random(count, generator)
    return torch.stack(found), torch.stack(expected)


@pytest.mark.parametrize("kind", DYNAMICS)
@pytest.mark.parametrize("spec", [CONTINUOUS, SEVERAL_DISCRETE])
def test_the_exported_step_believes_what_the_library_does(tmp_path, kind, spec):
    one = model(spec, **DYNAMICS[kind]).eval()
    differences = export(one, tmp_path / "exported")
    assert set(differences) == {"encoder.pt2", "belief.pt2"} and max(differences.values()) < 1e-5
    found, expected = exported_belief(tmp_path / "exported", one)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_what_was_pretrained_is_exported_and_an_encoder_alone_has_no_belief(tmp_path):
    for dynamics, names in ((RECURRENT, {"encoder.pt2", "belief.pt2"}), (None, {"encoder.pt2"})):
        config = RepresentationConfig((VICRegConfig(projector=(8,)),), VectorEncoderConfig(units=8), dynamics)
        one = Representation.from_config(config, CONTINUOUS).eval()
        assert set(export(one, tmp_path / "exported")) == names
    shown = {name: torch.randn(3, *entry.shape) for name, entry in CONTINUOUS.observation.items()}
    run = torch.export.load(tmp_path / "exported" / "encoder.pt2").module()
    torch.testing.assert_close(run(shown), one.encoder(shown))
    told = json.loads((tmp_path / "exported" / "export.json").read_text())
    assert "state" not in told and told["embedding"] == one.encoder.embed_dim
    one.spec = None
    with pytest.raises(ValueError, match="not told what it observes"):
        export(one, tmp_path / "other")


@pytest.mark.parametrize(
    ("spec", "images", "kind"),
    [
        (BOTH, ConvolutionalEncoderConfig(depth=2), "rssm"),
        (BOTH, PatchEncoderConfig(units=8, layers=1, heads=2, patch=8), "gaussian"),
        (CONTINUOUS, ConvolutionalEncoderConfig(), "simnorm"),
        (WORDED, ConvolutionalEncoderConfig(), "rssm"),
    ],
    ids=["pictures", "patches", "vectors", "texts"],
)
def test_all_that_is_observed_is_exported_as_onnx_too(tmp_path, spec, images, kind):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    encoder = SeveralEncoderConfig(images, VectorEncoderConfig(units=8), TextEncoderConfig(units=8, layers=1, heads=2))
    one = model(spec, encoder=encoder, **DYNAMICS[kind]).eval()
    differences = export(one, tmp_path / "exported", onnx=True)
    assert set(differences) == {"encoder.pt2", "belief.pt2", "encoder.onnx", "belief.onnx"}
    assert max(differences.values()) < 1e-4
    found, expected = exported_belief(tmp_path / "exported", one)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_numbers_that_are_not_the_models_are_not_written(tmp_path, monkeypatch):
    one = model().eval()
    load = torch.export.load

    def other(path):
        program = load(path)
        with torch.no_grad():
            next(iter(program.state_dict.values())).normal_()
        return program

    monkeypatch.setattr(torch.export, "load", other)
    with pytest.raises(ExportError, match="differs from the model by .*: nothing was written"):
        export(one, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_numbers_that_are_none_are_not_written_either(tmp_path):
    one = model().eval()
    with torch.no_grad():
        next(one.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(ExportError, match="differs from the model by inf"):
        export(one, tmp_path / "exported")


def test_a_saved_model_is_loaded_and_a_name_of_the_hub_downloaded(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    one = model()
    one.save(tmp_path / "saved")
    one.save(tmp_path / "saved")  # again, over what is there
    asked = []

    def downloaded(name, **options):
        asked.append((name, options))
        return str(tmp_path / "saved")

    monkeypatch.setattr(hub, "snapshot_download", downloaded)
    for path in (tmp_path / "saved", "hub:somebody/walker"):
        loaded = worldmodel.load(path)
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in one.state_dict().items())
    wanted = {"allow_patterns": ["*.json", "*.safetensors", "config.yaml"], "ignore_patterns": ["replay/*"]}
    assert asked == [("somebody/walker", wanted)]
    with pytest.raises(FileNotFoundError, match="or, of the Hugging Face Hub, hub:somebody/walker$"):
        worldmodel.load("somebody/walker")

    def unreachable(*_, **__):
        raise Exception("The proxy says no.\nAt length.")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(FileNotFoundError, match="could not be had from the Hugging Face Hub: The proxy says no.$"):
        worldmodel.load("hub:somebody/walker")


@pytest.mark.parametrize("write", [lambda one, folder: one.save(folder), export])
def test_a_folder_that_holds_anything_else_is_not_replaced(tmp_path, write):
    one = model().eval()
    checkpoint = tmp_path / "run" / "checkpoints" / "000000000008"
    checkpoint.parent.mkdir(parents=True)
    one.save(checkpoint)
    (checkpoint / "optimiser.safetensors").write_bytes(b"what a run goes on from")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "run", checkpoint, tmp_path / "file"):
        with pytest.raises(ValueError, match="would be lost|is a file"):
            write(one, folder)
    assert (checkpoint / "optimiser.safetensors").read_bytes() == b"what a run goes on from"
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        write(one, tmp_path / "empty")
    with pytest.raises(ValueError, match="would be lost"):  # a model's place is no export's, nor the other way round
        one.save(tmp_path / "empty") if write is export else export(one, tmp_path / "empty")


@pytest.mark.parametrize("kind", ["rssm", "gaussian"])
def test_without_a_draw_one_history_gives_one_state_which_is_the_most_probable(kind):
    dynamics = model(**DYNAMICS[kind]).eval().dynamics
    state, action, embed = dynamics.initial(4), torch.randn(4, 2), torch.randn(4, 8)
    first = torch.zeros(4, dtype=torch.bool)
    state, again = (dynamics.update(state, action, embed, first, draw=False) for _ in range(2))
    drawn = torch.stack([dynamics.update(dynamics.initial(4), action, embed, first).stochastic for _ in range(4000)])
    torch.testing.assert_close(again.deterministic, state.deterministic)
    mean = drawn.mean(0)
    if kind == "gaussian":
        torch.testing.assert_close(state.stochastic, mean, rtol=0, atol=0.1)
    else:
        shape = (4, RECURRENT.classes, RECURRENT.groups)
        often, taken = mean.view(shape), state.stochastic.view(shape)
        assert (often.gather(1, taken.argmax(1, keepdim=True)) > often.amax(1, keepdim=True) - 0.05).all()
