"""What the documents say, runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_new_objective_of_the_document_learns_and_keeps_the_contract():
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "new_objective.md").read_text(), flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program + AFTERWARDS],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
