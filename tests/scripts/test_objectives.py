"""pretrain.py, probe.py and compare_objectives.py, one after the other, as their help says."""

import csv
import json
import shutil

import pytest
import torch
import yaml
from commands import TINY_DREAMER, command, started

import worldmodel
from agents.looking import look_at
from agents.run import alone_in
from worldmodel.data.recording import Recording

SMALL = ["--batch-size", 4, "--batch-length", 6, "--compile", "no", "--precision", "float32", "--device", "cpu"]
ENCODER = ["--size", "1m", "--model.encoder.images.depth", 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "reacher"
    arguments = ["--task", "dmc/reacher-easy", "--observation", "both", "--image-size", 16, "--fast-rendering"]
    said = command("collect.py", *arguments, "--time-limit", 40, "--episodes", 5, "--out", folder)
    assert said.code == 0, said.error
    return folder


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "cpc"
    said = command("pretrain.py", "cpc", "--data", data, *ENCODER, *SMALL, "--steps", 4, "--out", folder)
    assert said.code == 0, said.error
    assert "Learns from 4 episodes" in said.out and "84 steps of image; 1 are left for probes" in said.out
    return folder


def test_an_encoder_is_pretrained_probed_and_trained_on(data, pretrained, tmp_path):
    said = command("probe.py", pretrained, "--data", data, "--labels", 10, 40, "--out", tmp_path / "rows.csv")
    assert said.code == 0, said.error
    assert "to_target" in said.out and "Alignment of pictures" in said.out and "Surprise" not in said.out
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert {row["encoder"] for row in rows} == {"learned", "random"} and len(rows) == 2 * 2 * 2 * 3
    sizes = ["--task", "dmc/reacher-easy", "--observation", "pixels", "--image-size", 16, "--fast-rendering"]
    arguments = ["dreamerv3", *sizes, "--encoder", pretrained, "--freeze-encoder", *TINY_DREAMER]
    said = command("train.py", *arguments, "--time-limit", 40, "--steps", 100, "--logdir", tmp_path / "run")
    assert said.code == 0, said.error
    trained, before = worldmodel.load(tmp_path / "run"), worldmodel.load_representation(pretrained).representation
    for one, other in zip(trained.encoder.parameters(), before.encoder.parameters(), strict=True):
        assert torch.equal(one, other)
    # The run goes on by itself: its encoder is in its checkpoints.
    said = command("train.py", "--resume", tmp_path / "run", "--steps", 120)
    assert said.code == 0, said.error
    said = command("train.py", "--resume", tmp_path / "run", "--steps", 140, "--encoder", pretrained)
    assert said.code == 2 and "goes on with the encoder that it has" in said.error
    # A training's run is probed as well, its features too.
    said = command("probe.py", tmp_path / "run", "--data", data, "--labels", 20)
    assert said.code == 0, said.error
    assert "feature" in said.out and "Surprise by step: median" in said.out and "of a random model" in said.out
    assert "Features imagined k steps on" in said.out and "k = 15" in said.out


def test_variables_are_probed_for_disentanglement_in_the_episodes_that_were_left_out(data, tmp_path):
    pytest.importorskip("sklearn")
    arguments = [*ENCODER, *SMALL, "--steps", 2, "--held-out", 0.6, "--out", tmp_path]
    said = command("pretrain.py", "variational,dim=3", "--data", data, *arguments)
    assert said.code == 0 and "3 are left for probes" in said.out, said.error
    said = command("probe.py", tmp_path, "--data", data, "--labels", 40, "--targets", "to_target", "--disentanglement")
    assert said.code == 0, said.error
    assert "variables" in said.out and "MIG" in said.out
    said = command("probe.py", tmp_path, "--data", data, "--labels", 60)
    assert said.code == 2 and "60 labels are more than the 42 steps" in said.error


def test_what_a_pretraining_with_dynamics_imagines_is_seen_on_the_episodes_that_it_left(data, pretrained, tmp_path):
    arguments = ["--data", data, *ENCODER, *SMALL, "--dynamics", "rssm", "--model.dynamics.deterministic", 16]
    said = command("pretrain.py", "cpc", *arguments, "--steps", 2, "--held-out", 0.4, "--out", tmp_path / "run")
    assert said.code == 0, said.error
    look = look_at(tmp_path / "run")
    left = list(Recording(data).episodes(range(3, 5)))
    assert torch.equal(look.steps.observation["image"], torch.cat([steps.observation["image"] for steps in left]))
    assert look.title == "dmc/reacher-easy, cpc 1m, 2 updates"
    options = ["--horizon", 10, "--inspection.updates", 5, "--device", "cpu", "--out", tmp_path / "dream.png"]
    said = command("imagine.py", tmp_path / "run", *options, "--map", tmp_path / "map.png")
    assert said.code == 0, said.error
    assert "Inspection decoder for image" in said.out and "10 steps ahead" in said.out
    assert (tmp_path / "dream.png").is_file() and (tmp_path / "map.png").is_file()
    said = command("imagine.py", pretrained, *options)
    assert said.code == 2 and "holds an encoder alone, which imagines nothing" in said.error


def test_the_same_command_goes_on_and_another_is_refused(data, pretrained):
    arguments = ["--data", data, *ENCODER, *SMALL, "--out", pretrained]
    said = command("pretrain.py", "cpc", *arguments, "--steps", 6)
    assert said.code == 0, said.error
    assert [path.name for path in (pretrained / "checkpoints").iterdir() if path.name == "000000000006"]
    said = command("pretrain.py", "byol", *arguments, "--steps", 6)
    assert said.code == 2 and "holds a pretraining with another model" in said.error
    # What was written before an option was there goes on with its default.
    written = yaml.safe_load((pretrained / "config.yaml").read_text())
    del written["run"]["model"]["objectives"][0]["negatives"]
    (pretrained / "config.yaml").write_text(yaml.safe_dump(written))
    said = command("pretrain.py", "cpc", *arguments, "--steps", 7)
    assert said.code == 0, said.error


def test_dynamics_that_learn_from_an_objective_alone_bring_it(data, tmp_path):
    arguments = ["--data", data, *ENCODER, *SMALL, "--dynamics", "simnorm", "--out", tmp_path]
    said = command("pretrain.py", "cpc", *arguments, "--steps", 2)
    assert said.code == 0, said.error
    learned = worldmodel.load_representation(tmp_path).representation
    assert [type(one).__name__ for one in learned.objectives] == ["CPC", "Consistency"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name an objective first"),
        (["cpcc"], "There is no objective named 'cpcc': did you mean 'cpc'"),
        (["barlow"], "learns from the features of a dynamics model"),
        (["cpc", "--observe", "camera"], "has no observation 'camera'"),
        (["cpc", "--image-encoder", "round"], "give convolutional or patches"),
    ],
)
def test_what_cannot_be_learned_is_said(data, tmp_path, arguments, sentence):
    said = command("pretrain.py", *arguments, "--data", data, *SMALL, "--out", tmp_path)
    assert said.code == 2 and sentence in said.error, said.error


def test_what_cannot_be_probed_is_said(data, pretrained, tmp_path):
    said = command("probe.py", pretrained, "--data", data, "--labels", 500)
    assert said.code == 2 and "500 labels are more than the 84 steps" in said.error
    said = command("train.py", "tdmpc2", "--freeze-encoder", "--logdir", tmp_path)
    assert said.code == 2 and "There is no encoder to freeze" in said.error


def test_what_needs_many_steps_is_in_the_table_or_the_table_says_why_not(data, tmp_path):
    arguments = ["--data", data, *SMALL, "--steps", 1, "--labels", 10, "--dynamics", "rssm", "--distractions", "camera"]
    for dim in (8, 16):  # W-MSE whitens two steps or more for each dimension; a batch has 24, two of its windows 12
        out = tmp_path / str(dim)
        given = [*arguments, "--projector", 16, dim, "--out", out]
        said = command("compare_objectives.py", "--objectives", "wmse", *given)
        assert said.code == 0, said.error
        rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
        table = (out / "table.md").read_text()
        assert ("wmse" in [row["objective"] for row in rows]) == (dim == 8)
        assert [f"Left out: wmse ({condition}, seed 0)." in table for condition in ("clean", "camera:0.1")] == [
            dim == 16
        ] * 2


def test_objectives_are_compared_and_a_comparison_goes_on(data, tmp_path):
    arguments = ["--data", data, *SMALL, "--steps", 2, "--labels", 10, 40, "--projector", 16, 8, "--out", tmp_path]
    arguments += ["--distractions", "episode-noise:0.1+camera"]
    said = command("compare_objectives.py", "--objectives", "cpc", "barlow", "text-pairs", *arguments)
    assert said.code == 0, said.error
    assert "Left out: text-pairs." in said.out and "6 trainings of 2 updates; 0 are done already" in said.out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["objective"] for row in rows] == ["random encoder", "cpc", "barlow"] * 2
    assert rows[1]["r2"].keys() == {"embedding linear", "embedding neighbours"}
    assert rows[2]["r2"].keys() == rows[0]["r2"].keys() > rows[1]["r2"].keys(), "barlow learns from features"
    table = (tmp_path / "table.md").read_text()
    assert "## The embedding" in table and "## The feature" in table and table.count("| cpc |") == 1
    assert (tmp_path / "table_embedding.png").is_file()
    arguments[1] = shutil.copytree(data, tmp_path / "elsewhere")  # the same recording
    said = command("compare_objectives.py", "--objectives", "cpc", "barlow", "rotation", *arguments)
    assert said.code == 0, said.error
    assert "2 trainings of 2 updates; 6 are done already" in said.out
    # What a changed default makes another model of is learned anew; a row that stands there twice counts once.
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    stale = json.loads(lines[1])
    assert (stale["objective"], stale["condition"]) == ("cpc", "clean")
    assert len(stale["by_target"]["embedding linear"]["to_target"]) == 2, "of each of its numbers"
    lines = [lines[0], lines[0], json.dumps(stale | {"made": "otherwise"}), *lines[2:]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    said = command("compare_objectives.py", "--objectives", "cpc", "barlow", "rotation", *arguments)
    assert said.code == 0 and "1 trainings of 2 updates; 7 are done already" in said.out, said.error
    with alone_in(tmp_path):
        said = command("compare_objectives.py", "--objectives", "cpc", *arguments)
        assert said.code == 2 and "Another process" in said.error
    arguments[arguments.index("--steps") + 1] = 3
    said = command("compare_objectives.py", "--objectives", "cpc", *arguments)
    assert said.code == 2 and "holds a comparison with another pretraining" in said.error
    (tmp_path / "elsewhere" / "000000.safetensors").unlink()
    said = command("compare_objectives.py", "--objectives", "cpc", *arguments)
    assert said.code == 2 and "holds a comparison with another data" in said.error


def test_what_becomes_nan_is_a_row_of_its_own_and_not_tried_again(data, tmp_path):
    arguments = ["--data", data, *SMALL, "--steps", 4, "--labels", 10, "--projector", 16, 8, "--distractions"]
    arguments += ["--objectives", "cpc", "--optimiser.learning-rate", 1e30, "--out", tmp_path]
    for done in (0, 2):
        said = command("compare_objectives.py", *arguments)
        assert said.code == 0 and f"{done} are done already" in said.out, said.error
        assert ("Nothing is known of cpc (clean)." in said.out) is (done == 0)
    row = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[1])
    assert row["objective"] == "cpc" and "failed" in row and not row["r2"]
    assert "| random encoder |" in (tmp_path / "table.md").read_text()


def test_labels_that_are_not_there_are_said_before_anything_is_trained(data, tmp_path):
    said = command("compare_objectives.py", "--data", data, *SMALL, "--out", tmp_path)
    assert said.code == 2 and "1000 labels are more than the 84 steps" in said.error and "trainings" not in said.out


def test_a_comparison_that_is_killed_goes_on(data, tmp_path):
    arguments = [
        "--data",
        data,
        *SMALL,
        "--steps",
        2,
        "--labels",
        10,
        "--projector",
        16,
        8,
        "--distractions",
        "--out",
        tmp_path,
    ]
    process = started("compare_objectives.py", "--objectives", "rotation", "cpc", "spr", "vicreg", *arguments)
    for line in process.stdout:
        if "2 of 5" in line:
            process.kill()
    process.wait()
    done = len((tmp_path / "rows.jsonl").read_text().splitlines())
    assert 2 <= done < 5
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"objective": "sp')  # as where the power fails
    said = command("compare_objectives.py", "--objectives", "rotation", "cpc", "spr", "vicreg", *arguments)
    assert said.code == 0 and f"{5 - done} trainings of 2 updates; {done} are done" in said.out
    rows = [line for line in (tmp_path / "rows.jsonl").read_text().splitlines() if line.endswith("}")]
    assert len(rows) == 5, "what was cut spoils no other row"
