import logging
import subprocess
import sys

import pytest
import torch
from small import CONTINUOUS, SEVERAL_DISCRETE, model, stream

import worldmodel
from worldmodel import objectives
from worldmodel import registry as registered
from worldmodel.dynamics import state_at
from worldmodel.loading import CHECKPOINTS, WEIGHTS, write_model
from worldmodel.snapshots import DamagedError, read_json, read_tensors, write_json, write_tensors, writing


def save(one, run, step: int):
    folder = run / CHECKPOINTS / f"{step:012d}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with writing(folder) as beside:
        write_model(one, beside)
    return folder


def spoil(folder) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("spec", [CONTINUOUS, SEVERAL_DISCRETE])
@pytest.mark.parametrize("changes", [{}, {"continuation": None}])
def test_a_loaded_model_is_the_one_that_was_written(tmp_path, spec, changes):
    one, steps = model(spec, **changes), stream(spec)
    folder = save(one, tmp_path, 5)
    for path in (tmp_path, folder, str(tmp_path)):
        loaded = worldmodel.load(path)
        assert loaded.config == one.config and loaded.spec == one.spec and not loaded.training
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in one.state_dict().items())
        start = state_at(loaded.scene(steps).filtered.states, 0)
        here = one.imagine(state_at(one.scene(steps).filtered.states, 0), steps.action)
        assert torch.equal(loaded.imagine(start, steps.action).rewards, here.rewards)


def test_the_newest_is_taken_and_a_damaged_one_passed_over_with_a_warning(tmp_path, caplog):
    models = {step: model(seed=step) for step in (1, 2, 10)}
    folders = {step: save(one, tmp_path, step) for step, one in models.items()}

    def same(step) -> bool:
        return torch.equal(worldmodel.load(tmp_path).reward.network[2].bias, models[step].reward.network[2].bias)

    assert same(10)
    spoil(folders[10])
    with caplog.at_level(logging.WARNING):
        assert same(2)
    assert folders[10].name in caplog.text
    with pytest.raises(DamagedError, match=folders[10].name):
        worldmodel.load(folders[10])


def test_where_there_is_nothing_to_load_a_sentence_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the folder of a run") as caught:
        worldmodel.load(tmp_path)
    assert "\n" not in str(caught.value)
    spoil(save(model(), tmp_path, 1))
    with pytest.raises(FileNotFoundError, match="All 1 checkpoints in .* are damaged"):
        worldmodel.load(tmp_path)


def test_what_was_learned_from_an_objective_of_ones_own_is_loaded_without_it(tmp_path, monkeypatch, caplog):
    names = ("byol", "consistency", "reconstruction")
    one = model(objectives=tuple(objectives.objectives.config(name) for name in names))
    folder = save(one, tmp_path, 5)
    registry = {name: value for name, value in registered._CONFIG_CLASSES.items() if name != "objective/byol"}
    monkeypatch.setattr(registered, "_CONFIG_CLASSES", registry)
    loaded = worldmodel.load(folder)
    assert "Loaded without all that it learned from: There is no part named 'objective/byol'" in caplog.text
    assert [type(each) for each in loaded.objectives] == [type(each) for each in one.objectives][1:]
    for part in ("encoder", "dynamics", "reward"):
        for name, value in getattr(one, part).state_dict().items():
            assert torch.equal(value, getattr(loaded, part).state_dict()[name])
    decoder = one.objectives[2].state_dict()
    assert decoder and all(
        torch.equal(value, decoder[name]) for name, value in loaded.objectives[1].state_dict().items()
    )


def test_a_format_of_the_future_is_refused(tmp_path):
    folder = tmp_path / "model"
    with writing(folder) as beside:
        write_model(model(), beside)
        write_json(beside / "model.json", read_json(beside / "model.json") | {"format": 99})
    with pytest.raises(ValueError, match="format 99, this version reads format 1"):
        worldmodel.load(folder)


def test_options_of_another_version_are_refused_as_such(tmp_path):
    folder = tmp_path / "model"
    with writing(folder) as beside:
        write_model(model(), beside)
        described = read_json(beside / "model.json")
        described["config"]["encoder"]["twist"] = 2
        write_json(beside / "model.json", described)
    with pytest.raises(ValueError, match="model.json was written by another version, .*'twist'") as caught:
        worldmodel.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tensors: tensors | {"reward.extra": torch.zeros(2)},
            r"has reward.extra of shape \[2\].* model has none",
        ),
        (
            lambda tensors: {n: v for n, v in tensors.items() if "reward" not in n},
            r"has no reward.* model has one of shape",
        ),
        (lambda tensors: {n: v.flatten()[:1] for n, v in tensors.items()}, r"of shape \[1.* model has one of shape"),
    ],
)
def test_weights_of_another_version_are_refused_naming_the_first(tmp_path, change, words):
    folder = tmp_path / "model"
    with writing(folder) as beside:
        write_model(model(), beside)
        write_tensors(beside / "model.safetensors", change(read_tensors(beside / "model.safetensors")))
    with pytest.raises(ValueError, match=words) as caught:
        worldmodel.load(folder)
    assert "\n" not in str(caught.value)


def test_importing_the_library_takes_under_two_seconds_beyond_torch():
    # Of processor time, so that a busy machine does not matter.
    code = "import time, torch; t = time.process_time(); import worldmodel; print(time.process_time() - t)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert float(out.stdout) < 2.0
