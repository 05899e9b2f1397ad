"""Films of a run while it trains: what the model imagines, and how the agent acts."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from agents.watching import CAPACITY, Watch, picture
from worldmodel.data import Replay
from worldmodel.data.episodes import from_a_beginning
from worldmodel.model import WorldModel
from worldmodel.visualize import Imagination, Inspection, imagine, latent_map, window_indices
from worldmodel.visualize.files import save_frames, write_gif, write_picture
from worldmodel.visualize.inspection import InspectionConfig, unfitted
from worldmodel.visualize.windows import lead_of, with_lead

log = logging.getLogger("worldmodel")

FILMS = "films"
CONTEXT, HORIZON, SEQUENCES, SAMPLES = 5, 45, 3, 3
EPISODE_SIDE, EPISODE_FRAMES, UNLIMITED_FRAMES = 128, 100, 200


class Filming:
    """Makes the films of one run, into TensorBoard and ``films/`` of its folder.

    Nothing of it touches the training: the steps are the newest of the first environment, what is drawn at random comes from
    the film's own seed, and the decoder for looking learns on the side, from features without gradient.
    """

    inspection = InspectionConfig()
    """Of the decoder for looking."""

    def __init__(self, model: WorldModel, replay: Replay, watch: Watch | None, logdir: Path, title: str) -> None:
        self.model, self.folder, self.title = model, logdir / FILMS, title
        self.source = replay if watch is None else watch.replay
        self._inspection: Inspection | None = None

    def imagination(self, writer: Any, step: int) -> Imagination | None:
        """Film what the model imagines of the newest episodes, and draw a map of their latent states.

        Episodes shorter than context and horizon are filmed whole. None where all are single steps, and where filming fails,
        which is said: a training is worth more than a film.
        """
        try:
            return self._imagination(writer, step)
        except Exception as error:
            log.warning("What the model imagines is not filmed at step %s: %s: %s", step, type(error).__name__, error)
            return None

    def _imagination(self, writer: Any, step: int) -> Imagination | None:
        recording = from_a_beginning(self.source.newest(CAPACITY))
        places = window_indices(recording.is_first, CONTEXT + HORIZON, SEQUENCES, seed=step)
        lead, length = lead_of(recording.is_first, places), places.shape[1]
        if length < 2:
            return None
        if self._inspection is None:
            self._inspection = unfitted(self.model, self.source.spec, self.inspection)
        if self._inspection is not None:
            self._inspection.fit(self.model, recording, seed=step, unseen=places)
        title, context = f"{self.title}, {step:,} steps", min(CONTEXT, length // 2)
        film = imagine(
            self.model,
            with_lead(recording, places, lead),
            context=context,
            lead=lead,
            samples=SAMPLES,
            inspection=self._inspection,
            seed=step,
            title=title,
        )
        film.to_tensorboard(writer, step)
        film.save(self.folder / f"{step:09d}-imagination.gif")
        chart = latent_map(self.model, recording, title)
        write_picture(writer, "latent_map", chart, step)
        save_frames([chart], self.folder / f"{step:09d}-latent-map.png", fps=1)
        return film

    def episode(self, writer: Any, step: int, frames: list[np.ndarray], fps: float) -> None:
        """Show an evaluation episode; where that fails, it is said."""
        try:
            if frames:
                write_gif(writer, "evaluation", frames, step, fps)
                save_frames(frames, self.folder / f"{step:09d}-evaluation.gif", fps)
        except Exception as error:
            log.warning("The evaluation is not filmed at step %s: %s: %s", step, type(error).__name__, error)


class EpisodeCamera:
    """Takes pictures of the first environment's first episode, a hundred at most where its length is known.

    Where drawing fails, that is said once, and there are no pictures.
    """

    def __init__(self, tasks: gymnasium.vector.VectorEnv) -> None:
        self.tasks = tasks
        self.works = tasks.render_mode == "rgb_array"
        length = getattr(tasks, "episode_length", None)
        self.every = math.ceil(length / EPISODE_FRAMES) if length else 1
        self.fps = min(max(tasks.metadata.get("render_fps", 30) / self.every, 5), 50)
        self.frames: list[np.ndarray] = []
        self._asked = 0

    def shoot(self, episode: int = 0) -> None:
        """To be called at each decision of an episode, with its number."""
        if episode:
            return
        self._asked += 1
        if not self.works or (self._asked - 1) % self.every or len(self.frames) >= UNLIMITED_FRAMES:
            return
        try:
            self.frames.append(picture(self.tasks, EPISODE_SIDE))
        except Exception as error:  # whatever a renderer may raise: training is worth more than a film
            log.warning("The evaluation is not filmed, since drawing failed: %s: %s", type(error).__name__, error)
            self.works = False

    def take(self) -> list[np.ndarray]:
        """The pictures so far, which are then forgotten."""
        frames, self.frames, self._asked = self.frames, [], 0
        return frames
