"""What compare_objectives.py trains, and what stands beside it."""

import sys

import numpy as np
import torch
from commands import SCRIPTS
from gymnasium import spaces

import worldmodel
from worldmodel.data import Spec, Steps

sys.path.insert(0, str(SCRIPTS))
from comparison_models import RANDOM, RANDOM_PATCHES, beside, model_of, teaches_dynamics
from comparison_report import table

SPEC = Spec.from_spaces(spaces.Dict({"image": spaces.Box(0, 255, (32, 32, 3), np.uint8)}), spaces.Box(-1, 1, (2,)))
SHARED = {"size": "1m", "dynamics": "", "projector": (16, 8), "shorten": True}


def test_shifts_and_predictors_keep_the_papers_proportions():
    (byol,), (spr,) = (model_of(name, SPEC, **SHARED).objectives for name in ("byol", "spr"))
    assert byol.augmentation.shift == 2 and byol.projector == (16, 8)
    assert spr.augmentation is None
    assert byol.predictor == 16 * 8, "as many times its inputs as published"
    (as_published,) = model_of("byol", SPEC, **(SHARED | {"shorten": False})).objectives
    assert as_published.augmentation.shift == 4


def test_what_papers_count_in_pictures_and_pixels_is_scaled_down_unless_it_is_given():
    (moco,), (dreamerpro,) = (model_of(name, SPEC, **SHARED).objectives for name in ("moco", "prototypes"))
    assert moco.queue == 512 and (dreamerpro.prototypes, dreamerpro.shift) == (64, 2)
    (given,) = model_of("moco,queue=300,augmentation.noise=0.1", SPEC, **SHARED).objectives
    assert given.queue == 300 and (given.augmentation.noise, given.augmentation.shift) == (0.1, 2)
    (own,) = model_of("vicreg,augmentation.shift=0", SPEC, **SHARED).objectives
    (wide,) = model_of("prototypes,shift=5", SPEC, **SHARED).objectives
    assert own.augmentation.shift == 0 and wide.shift == 5


def test_what_learns_from_imagined_features_has_dynamics_to_imagine_with():
    assert model_of("consistency", SPEC, **SHARED).dynamics is not None


def test_untrained_encoders_are_those_that_the_trained_ones_began_with():
    models = {name: model_of(name, SPEC, **SHARED) for name in ("cpc", "barlow", "mae")}
    untrained = beside(list(models.values()))
    assert list(untrained) == [RANDOM, RANDOM_PATCHES]
    for name, other in (("cpc", RANDOM), ("barlow", RANDOM), ("mae", RANDOM_PATCHES)):
        found = []
        for config in (models[name], untrained[other]):
            torch.manual_seed(3)
            found.append(worldmodel.Representation.from_config(config, SPEC))
        for one, random in zip(*(x.encoder.parameters() for x in found), strict=True):
            assert torch.equal(one, random)
        assert found[1].dynamics is not None, "features are known of it as well"


def test_features_that_an_objective_has_not_shaped_are_marked():
    steps = Steps(
        {"image": torch.randint(256, (3, 5, 32, 32, 3), dtype=torch.uint8)},
        torch.zeros(3, 5), *torch.zeros(3, 3, 5).bool(), torch.rand(3, 5, 2),
    )  # fmt: skip
    rows = []
    for name in ("vicreg", "vicreg,between=steps", "reconstruction"):
        config = model_of(name, SPEC, **(SHARED | {"dynamics": "rssm"}))
        teaches = teaches_dynamics(worldmodel.Representation.from_config(config, SPEC), steps)
        rows.append(
            {"objective": name, "condition": "clean", "seed": 0, "teaches_dynamics": teaches, "milliseconds": 1}
        )
        rows[-1] |= {"r2": {"feature linear": [0.5], "embedding linear": [0.5]}, "effective_rank": {}}
    assert [row["teaches_dynamics"] for row in rows] == [True, False, True]
    names = [row["objective"] for row in rows]
    features = table(rows, names, ["clean"], [10], "feature")
    assert "| vicreg |" in features and "| vicreg,between=steps\\* |" in features and features.count("\\*") == 2
    assert "\\*" not in table(rows, names, ["clean"], [10], "embedding")
