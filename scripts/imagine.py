"""Look at what the model of a run imagines.

    python scripts/imagine.py runs/walker --context 5 --horizon 45 --samples 3 --out dream.gif
    python scripts/imagine.py runs/walker --out dream.png --map latents.png
    python scripts/imagine.py runs/cpc --data data/reacher

The steps are the last of the run's first environment, as its newest checkpoint has them: no environment is made. With --data they
are the last episodes of a recording, of which a pretraining shows those that it left for probes, of its own one if none is given.
A model without a decoder is looked at through an inspection decoder, which is trained here, in seconds to a minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from command import check_folder, one_sentence_errors
from tyro.conf import Positional, arg

import worldmodel
from agents.execution import named_device
from agents.looking import look_at
from worldmodel.visualize.files import check_rate, check_suffix, save_frames
from worldmodel.visualize.inspection import InspectionConfig
from worldmodel.visualize.windows import LEAD, lead_of, with_lead


@dataclass(frozen=True)
class ImagineCommand:
    logdir: Positional[Path]
    """The folder of a training, or of a pretraining with dynamics."""
    data: Path | None = None
    """The folder of a recording (collect.py --out) to show it on."""
    out: Path = Path("dream.gif")
    """The film, .gif or .mp4, or .png for a contact sheet."""
    context: int = 5
    """Steps that the model sees, and that are shown."""
    lead: int = LEAD
    """Steps before those that it sees as well, at most, back to the episode's beginning: where it acts, it remembers them."""
    horizon: int = 45
    """Steps that it imagines after them."""
    samples: int = 3
    """Futures that are drawn of each."""
    sequences: int = 3
    """Stretches of episodes, side by side: one of each of the last episodes, as far as they are long enough."""
    seed: int = 0
    """Of the stretches and of what is imagined."""
    fps: float = 10.0
    """Steps shown in a second."""
    map: Path | None = None
    """A figure of the latent states as well: .png."""
    device: str = "auto"
    """auto, cpu or cuda."""
    inspection: Annotated[InspectionConfig, arg(name="inspection")] = InspectionConfig()


def main() -> None:
    with one_sentence_errors():
        command = tyro.cli(ImagineCommand, description=__doc__)
        check_suffix(command.out)
        check_folder(command.out, "--out")
        check_rate(command.fps)
        if command.map is not None:
            check_suffix(command.map, (".png",))
            check_folder(command.map, "--map")
        if min(command.context, command.horizon, command.samples, command.sequences) < 1 or command.lead < 0:
            raise ValueError("Context, horizon, samples and sequences are at least 1 each, the lead at least 0.")
        model, steps, spec, title = look_at(command.logdir, command.data, named_device(command.device))
        started = time.monotonic()
        length = command.context + command.horizon
        places = worldmodel.visualize.window_indices(steps.is_first, length, command.sequences, command.seed)
        if (found := places.shape[1]) <= command.context:
            raise ValueError(f"The recorded episodes have {found} steps or so: give a --context below {found}.")
        inspection = worldmodel.visualize.inspect(model, steps, spec, command.inspection, command.seed, places)
        if inspection is not None:
            shown = ", ".join(name for name in spec.observation if name in inspection.entries)
            those = (
                "on other steps than are shown" if inspection.held_out else "on those shown as well, as there are few"
            )
            print(f"Inspection decoder for {shown}: trained in {time.monotonic() - started:.0f} s, {those}.")
        elif command.inspection != InspectionConfig():
            print("The model's own decoder draws: --inspection has no effect.")
        if found < length:
            print(f"The recorded episodes have {found} steps or so: the horizon is {found - command.context}.")
        lead = lead_of(steps.is_first, places, command.lead)
        film = worldmodel.visualize.imagine(
            model,
            with_lead(steps, places, lead),
            context=command.context,
            lead=lead,
            samples=command.samples,
            inspection=inspection,
            seed=command.seed,
            title=title,
        )
        if film.samples < command.samples:
            print("The dynamics draws nothing at random: one future is all there is.")
        film.save(command.out, command.fps)
        error, baseline = (value.mean(0) for value in film.errors())
        print("Error of what is imagined   (of no change at all)")
        for k in sorted({k for k in (1, 5, 15, 45) if k < film.horizon} | {film.horizon}):
            print(f"  {k:>3} steps ahead   {error[k - 1]:8.3f}   {baseline[k - 1]:8.3f}")
        print(f"Wrote {command.out}.")
        if command.map is not None:
            save_frames([worldmodel.visualize.latent_map(model, steps, title)], command.map, 1)
            print(f"Wrote {command.map}.")


if __name__ == "__main__":
    main()
