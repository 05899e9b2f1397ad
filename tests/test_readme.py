"""What the README says, runs: its Python blocks as one program, its shell lines as far as their arguments."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tests" / "scripts"))
from commands import command  # noqa: E402

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    program = "\n".join(blocks("python"))
    # The program as printed trains for minutes; here it takes its first steps and one short evaluation.
    quick = "steps=60, final_episodes=1, eval_episodes=1, execution=agents.ExecutionConfig(compile='no')"
    assert program.count("steps=2_400") == 1
    program = program.replace("steps=2_400", quick)
    made = 'envs.make("Pendulum-v1", num_envs=2, seed=0'
    assert program.count(made) == 1
    program = program.replace(made, f"{made}, time_limit=40")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([2, 16, 128])" in done.stdout


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.split()[1] for block in blocks("shell") for line in block.splitlines() if line.startswith("make ")}
    assert targets >= {"train", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize(
    "line", [line for block in blocks("shell") for line in block.splitlines() if line.startswith("python scripts/")]
)
def test_every_command_knows_its_options(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, script, *arguments = shlex.split(line, comments=True)
    shown = command(script.removeprefix("scripts/"), "--help")
    assert shown.code == 0, shown.error
    for option in [argument for argument in arguments if argument.startswith("--")]:
        assert option in shown.out, f"{script} has no option {option}"


def test_every_folder_of_the_map_exists() -> None:
    for folder in re.findall(r"^\| `(\w+/)`", README, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_the_table_of_parts_is_the_registries() -> None:
    from agents.behaviours import behaviours
    from agents.behaviours.planners import planners
    from worldmodel.dynamics import dynamics

    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*) \|$", README, flags=re.MULTILINE))
    for option, registry in (("dynamics", dynamics), ("behaviour", behaviours), ("planner", planners)):
        assert sorted(re.findall(r"`([a-z-]+)`", rows[option])) == registry.names()


RESULTS = re.findall(r"^\| `([\w-]+)` \| ([\w/-]+)(, pixels)?[^|]* \| ([\d,]+) \| ([^|]+) \|", README, re.MULTILINE)


def records(recipe: str, task: str, pixels: bool) -> list[dict]:
    """Of the runs of a recipe as it is, without variants."""
    name = "-".join([*([recipe] if recipe != "tdmpc2" else []), task.replace("/", "-"), *["pixels"] * pixels])
    files = sorted((ROOT / "benchmarks" / "results" / "learning").glob(f"{name}-seed?.json"))
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize(("recipe", "task", "pixels", "steps", "returns"), RESULTS)
def test_results_are_those_of_the_records(recipe, task, pixels, steps, returns):
    after, (evaluated, *training) = int(steps.replace(",", "")), returns.split("; ")
    runs = [(record, dict(record["curve"])) for record in records(recipe, task, bool(pixels))]
    found = [(record, curve[after]) for record, curve in runs if after in curve]
    told = [value.split(" ± ") for value in evaluated.split(", ")]
    assert len(told) == len(found)
    for (value, *error), (record, expected) in zip(told, found, strict=True):
        assert abs(int(value) - expected) <= 0.56
        # The error is known of the end of a run alone.
        assert [int(one) for one in error] == [round(record["return_standard_error"])] * (record["env_steps"] == after)
    late = [value for step, value in found[0][0].get("training", ()) if step > 0.9 * found[0][0]["env_steps"]]
    assert all(abs(int(one) - sum(late) / len(late)) <= 0.56 for one in training)


def test_the_results_are_a_table():
    assert len(RESULTS) >= 19


ON = {
    "what is seen": "what the model sees, without velocities",
    "the last three of it": "the last 3 of those",
    "the last three pictures, by its own CNN": "the last 3 pictures, by its own CNN",
    "our encoder, frozen, of the last three": "our encoder, frozen, of the last 3",
    "our belief": "our belief",
    "our dream alone": "our dream alone",
    "the whole state, with velocities": "the whole state, velocities included",
}


def test_returns_of_somebody_elses_agent_are_those_of_the_records():
    told = (ROOT / "benchmarks" / "results" / "plugged.md").read_text()
    sections = {part.split(":")[0]: part for part in told.split("## ")[1:]}

    def cells(text: str, first: str) -> list[str]:
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
        return [cell.strip() for cell in line.strip("|").split("|")[1:]]

    for ours, theirs in ON.items():
        expected = [cell for task in ("CartPole-v1", "Pendulum-v1") for cell in cells(sections[task], theirs)[:3]]
        assert [cell or "–" for cell in cells(README, ours)] == expected, ours
    for theirs in ON.values():
        if theirs in sections["dmc/cartpole-balance"]:
            ours = theirs + ", from pixels" * theirs.startswith(("our belief", "our dream"))
            expected = cells(sections["dmc/cartpole-balance"], theirs)[:3]
            assert [cell or "–" for cell in cells(README, ours)] == expected, ours
