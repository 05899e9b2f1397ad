"""What the documents say, runs."""

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "scripts"))
from commands import TINY_DREAMER

DOCS = Path(__file__).parent.parent / "docs"

AFTERWARDS = """
import sys
sys.path[:0] = ["tests/worldmodel", "tests/worldmodel/objectives"]
from everyone import Place, gradients
from small import stream, with_other_unexecuted_actions
import agents

steps = stream(size=12, length=6)
for with_dynamics in (False, True):
    place = Place("slowness", with_dynamics)
    found = gradients(place, steps)
    assert any(value.any() for name, value in found.items() if name.startswith("encoder."))
    assert torch.equal(place.loss(steps), place.loss(with_other_unexecuted_actions(steps)))
optimiser = torch.optim.Adam(place.parameters(), 1e-2)
first = place.loss(steps).item()
for _ in range(50):
    optimiser.zero_grad()
    place.loss(steps).backward()
    optimiser.step()
assert place.loss(steps).item() < 0.9 * first, (first, place.loss(steps).item())
assert agents.with_objectives(agents.recipe("dreamerv3", "1m"), ["slowness:0.5"]).agent.model.objectives[0].weight == 0.5
"""


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.fixture
def program() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", (DOCS / "new_objective.md").read_text(), flags=re.DOTALL)
    return found


def test_the_new_objective_of_the_document_learns_and_keeps_the_contract(program):
    done = python("-c", program + AFTERWARDS)
    assert done.returncode == 0, done.stderr


def test_the_commands_find_the_new_objective_and_models_made_with_it_say_what_they_need(program, tmp_path):
    file, run = tmp_path / "slowness.py", tmp_path / "run"
    file.write_text(program)
    train = ["scripts/train.py", "dreamerv3", "--objectives", "slowness:0.5", "--task", "Pendulum-v1", *TINY_DREAMER]
    done = python(*train, "--steps", 40, "--logdir", run, WORLDMODEL_PLUGINS=str(file))
    assert done.returncode == 0, done.stderr
    assert "kind: objective/slowness" in (run / "config.yaml").read_text()
    load = (
        "import sys, worldmodel; model = worldmodel.load(sys.argv[1]); import slowness; print(model.config.objectives)"
    )
    done = python("-c", load, run, WORLDMODEL_PLUGINS=str(file))
    assert "SlownessConfig(weight=0.5" in done.stdout, done.stderr
    looked_at = "import sys, worldmodel; print(len(worldmodel.load(sys.argv[1]).objectives))"
    done = python("-c", looked_at, run)  # without what it learned from, which is said
    assert done.returncode == 0 and done.stdout.strip() == "0", done.stderr
    assert "There is no part named 'objective/slowness'" in done.stderr and "WORLDMODEL_PLUGINS" in done.stderr
    done = python("scripts/train.py", "--resume", run, "--steps", 60)
    assert done.returncode == 2 and "There is no part named 'objective/slowness'" in done.stderr, done.stderr
    for given, said in (
        ("gone.py", "names gone.py, which is no file"),
        ("gone", "the module 'gone', which is not installed"),
    ):
        done = python(*train, "--steps", 40, "--logdir", tmp_path / "other", WORLDMODEL_PLUGINS=given)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_the_page_on_choosing_has_its_numbers_from_the_rows():
    page = (DOCS / "choosing_objectives.md").read_text()
    told = re.findall(r"^\| `?([^`|]+?)`? \| ([\d.]+) \| \**([\d.]+) ± ([\d.]+)\** \|$", page, flags=re.MULTILINE)
    assert len(told) >= 9
    in_cartpole = re.findall(
        r"^\| `?([^`|]+?)`?(?: \(with `rssm`\))? \| ([\d.]+) \| ([\d.]+) \|$", page, flags=re.MULTILINE
    )
    assert len(in_cartpole) >= 10
    file = DOCS.parent / "benchmarks" / "results" / "objectives" / "cartpole" / "rows.jsonl"
    known = {
        (row["objective"], row["condition"], row["seed"]): row for row in map(json.loads, file.read_text().splitlines())
    }
    for name, *numbers in in_cartpole:
        found = [
            known[name, condition, 0]["r2"]["embedding linear"][-1] for condition in ("clean", "episode-noise:0.1")
        ]
        assert numbers == [f"{number:.2f}" for number in found], name
    rows = (DOCS.parent / "benchmarks" / "results" / "objectives" / "dot" / "rows.jsonl").read_text().splitlines()
    for name, *numbers in told:
        found = {"clean": [], "episode-noise:0.4": []}
        for row in map(json.loads, rows):
            if row["objective"] == name:
                found[row["condition"]].append(row["r2"]["embedding linear"][-1])
        clean, noise = found.values()
        expected = statistics.mean(clean), statistics.mean(noise), statistics.stdev(noise)
        assert numbers == [f"{number:.2f}" for number in expected], name
