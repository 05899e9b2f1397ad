"""Films of a run: they are there, in the folder and in TensorBoard, and change nothing."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import own_environments, tiny_trainer

import envs
from agents.filming import EpisodeCamera, Filming
from agents.stopping import Stopped
from agents.watching import FRAME, Watch, load_recording, picture
from worldmodel.data import Spec
from worldmodel.visualize.inspection import InspectionConfig


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(Filming, "inspection", InspectionConfig(updates=3))


def pendulum(**options):
    return envs.make("Pendulum-v1", time_limit=9, **options)


def filmed(logdir, kind: str = "tdmpc2", steps: int = 30, **options):
    """A run whose evaluations are filmed."""
    watch = options.get("watch", False)
    tasks = pendulum(render_mode="rgb_array" if watch else None)
    options = {"eval_every": 10, "eval_episodes": 1, "final_episodes": 1, "films": 2, **options}
    others = pendulum(render_mode="rgb_array")
    return tiny_trainer(tasks, logdir, kind=kind, evaluation_tasks=others, steps=steps, **options)


def files(logdir) -> list[str]:
    return sorted(path.name for path in (logdir / "films").iterdir())


@pytest.mark.parametrize("kind", ["tdmpc2", "dreamerv3"])
def test_films_of_imagination_and_of_an_episode_are_in_the_folder_and_in_tensorboard(tmp_path, kind):
    filmed(tmp_path, kind).run()
    kinds = ("evaluation.gif", "imagination.gif", "latent-map.png")
    # Two over 30 steps would be one each 15; the next evaluation comes at 20.
    assert files(tmp_path) == [f"{step:09d}-{name}" for step in (20, 30) for name in kinds]
    with Image.open(tmp_path / "films" / "000000030-imagination.gif") as gif:
        assert gif.n_frames == 10, "an episode of nine decisions is shown whole"
    with Image.open(tmp_path / "films" / "000000030-evaluation.gif") as gif:
        assert 1 < gif.n_frames <= 9, "pictures that are alike are one, shown longer"
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "imagination": [20, 30],
        "evaluation": [20, 30],
        "latent_map": [20, 30],
    }


def test_films_do_not_wait_for_an_evaluation(tmp_path):
    filmed(tmp_path, eval_every=1000).run()
    kinds = ("evaluation.gif", "imagination.gif", "latent-map.png")
    assert files(tmp_path) == [f"000000015-{name}" for name in kinds[1:]] + [f"000000030-{name}" for name in kinds]


def test_filming_and_watching_change_no_training(tmp_path):
    runs = []
    for name, options in (("without", {"films": 0}), ("with", {"watch": True})):
        trainer = filmed(tmp_path / name, **options)
        trainer.run()
        runs.append((trainer.agent.state_dict(), torch.get_rng_state(), trainer.replay.state_dict()["generator"]))
    for here, there in zip(*runs, strict=True):
        if isinstance(here, dict):
            assert all(torch.equal(value, there[name]) for name, value in here.items())
        else:
            assert torch.equal(here, there)


def test_watched_steps_have_the_picture_of_what_is_observed_and_are_in_the_checkpoint(tmp_path):
    trainer = filmed(tmp_path, watch=True)
    trainer.run()
    steps, spec = load_recording(tmp_path)
    assert spec.observation[FRAME].shape == (64, 64, 3) and len(steps.reward) == 33
    tasks = pendulum(render_mode="rgb_array")
    observation, _ = tasks.reset(seed=0)
    for t in range(9):
        assert np.array_equal(steps.observation["state"][t], observation[0])
        assert np.array_equal(steps.observation[FRAME][t], tasks.frame(0, 64))
        observation, _, _, _, info = tasks.step(trainer.agent.spec.action.to_environment(steps.action[t : t + 1]))
    assert np.array_equal(steps.observation["state"][9], info["final_obs"][0])
    assert torch.equal(steps.observation[FRAME][9], steps.observation[FRAME][8])
    assert steps.is_first.nonzero().flatten().tolist() == [0, 10, 20, 30]
    assert steps.is_last.nonzero().flatten().tolist() == [9, 19, 29]


def test_a_film_that_fails_is_said_and_ends_no_training(tmp_path, caplog, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr("agents.filming.imagine", broken)
    result = filmed(tmp_path).run()
    assert result is not None and "not filmed at step 30: RuntimeError: no ink" in caplog.text


def test_an_episode_that_cannot_be_filmed_is_said_and_ends_no_training(tmp_path, caplog, monkeypatch):
    def broken(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("agents.filming.write_gif", broken)
    assert filmed(tmp_path).run() is not None
    assert "The evaluation is not filmed at step 30: OSError: no space left" in caplog.text


def test_a_stopped_run_goes_on_watching_as_if_it_had_never_stopped(tmp_path):
    whole = filmed(tmp_path / "whole", watch=True)
    whole.run()
    cut = filmed(tmp_path / "cut", watch=True)
    collect = cut._collect

    def collect_and_stop() -> None:
        collect()
        cut._stop.asked = cut.env_steps >= 17

    cut._collect = collect_and_stop
    with pytest.raises(Stopped):
        cut.run()
    again = filmed(tmp_path / "cut", watch=True)
    again.run()
    here, there = whole.watch.rows(), again.watch.rows()
    assert here.keys() == there.keys() and all(torch.equal(value, there[name]) for name, value in here.items())


def test_watching_asks_for_environments_that_draw(tmp_path):
    with pytest.raises(ValueError, match="make them with render_mode='rgb_array'"):
        tiny_trainer(pendulum(), tmp_path, watch=True)


def test_watching_is_refused_where_pictures_of_another_size_are_observed():
    tasks = SimpleNamespace(render_mode="rgb_array")
    for side in (32, 64):
        pictures = spaces.Dict(
            {"camera": spaces.Box(0, 255, (side, side, 3), "uint8"), "pose": spaces.Box(-1, 1, (2,))}
        )
        spec = Spec.from_spaces(pictures, spaces.Discrete(2))
        if side == 64:
            assert FRAME in Watch(tasks, spec).spec.observation
            continue
        with pytest.raises(ValueError, match=r"'camera' of 32 × 32, and films show them: leave out watch") as caught:
            Watch(tasks, spec)
        assert "\n" not in str(caught.value)


def test_watching_is_refused_where_something_else_is_called_as_its_pictures_are():
    tasks = SimpleNamespace(render_mode="rgb_array")
    observed = spaces.Dict({FRAME: spaces.Box(-1, 1, (2,)), "pose": spaces.Box(-1, 1, (2,))})
    with pytest.raises(ValueError, match="something called 'frame' already, .*: leave out watch"):
        Watch(tasks, Spec.from_spaces(observed, spaces.Discrete(2)))


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_run_without_evaluations_shows_as_often_what_it_imagines(tmp_path, at_the_end):
    others = pendulum(render_mode="rgb_array") if at_the_end else None
    options = {"eval_every": 0 if at_the_end else 10, "final_episodes": 1, "films": 2}
    result = tiny_trainer(pendulum(), tmp_path, evaluation_tasks=others, eval_episodes=1, **options).run()
    kinds, ends = ("imagination.gif", "latent-map.png"), ("evaluation.gif",) * at_the_end
    # Two over 40 steps, the first once something was learned.
    assert files(tmp_path) == sorted(f"{s:09d}-{kind}" for s in (20, 40) for kind in kinds + ends * (s == 40))
    assert (result is not None) == at_the_end
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum("eval/return" in row for row in rows) == at_the_end, "a film is no evaluation"


def test_without_films_there_is_none(tmp_path):
    tiny_trainer(pendulum(), tmp_path, films=0).run()
    assert not (tmp_path / "films").exists()


def test_a_camera_takes_a_hundred_pictures_of_a_long_episode():
    tasks = envs.make("Pendulum-v1", time_limit=450, render_mode="rgb_array")
    tasks.reset(seed=0)
    camera = EpisodeCamera(tasks)
    for _ in range(450):
        camera.shoot()
    camera.shoot(1)
    assert len(camera.frames) == 90 and camera.fps == 6, "every fifth of the first episode, at the speed of the task"
    assert len(camera.take()) == 90 and not camera.frames


def test_where_drawing_fails_that_is_said_once_and_the_run_goes_on(caplog):
    tasks = pendulum(render_mode="rgb_array")
    camera = EpisodeCamera(tasks)
    tasks.frame = lambda *_: 1 / 0
    with caplog.at_level(logging.WARNING, "worldmodel"):
        for _ in range(3):
            camera.shoot()
    assert [r.message for r in caplog.records] == [
        "The evaluation is not filmed, since drawing failed: ZeroDivisionError: division by zero"
    ]
    assert camera.take() == []


def test_environments_of_ones_own_are_pictured_by_what_they_render():
    tasks = own_environments(AutoresetMode.SAME_STEP)
    frames = [np.full((40, 60, 3), 10 * i, np.uint8) for i in range(2)]
    tasks.render = lambda: tuple(frames)
    assert picture(tasks, 8).shape == (8, 8, 3) and not picture(tasks, 8).any()
