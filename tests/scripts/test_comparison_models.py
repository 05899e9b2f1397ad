"""What compare_objectives.py trains, and what stands beside it."""

import sys

import numpy as np
import pytest
import torch
from commands import SCRIPTS
from gymnasium import spaces

import worldmodel
from worldmodel.data import Spec, Steps
from worldmodel.dynamics import SimNormDynamicsConfig

sys.path.insert(0, str(SCRIPTS))
from comparison_models import RANDOM, RANDOM_PATCHES, beside, model_of, names_of, teaches_dynamics, told_of
from comparison_report import table, wrapped

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


def test_what_is_given_stays_even_where_it_is_the_papers_number():
    (moco,) = model_of("moco,queue=65536,augmentation.shift=4", SPEC, **SHARED).objectives
    (byol,) = model_of("byol,decay=0.99,projector=32x16,predictor=40", SPEC, **SHARED).objectives
    assert moco.queue == 65536 and moco.augmentation.shift == 4 and moco.decay == 0.99
    assert byol.decay == 0.99 and byol.projector == (32, 16) and byol.predictor == 40


def test_several_objectives_are_one_row():
    both = model_of("cpc,negatives=episode+vicreg,between=views,augmentation.exchange=yes:0.5", SPEC, **SHARED)
    cpc, vicreg = both.objectives
    assert cpc.negatives == "episode" and vicreg.augmentation.exchange and vicreg.weight == 0.5
    assert vicreg.projector == (16, 8) and told_of(both) == "views"
    with pytest.raises(ValueError, match="did you mean 'cpc'"):
        names_of(("vicreg+cpcc",))


def test_rows_say_what_tells_them_from_others():
    told = {
        name: told_of(model_of(name, SPEC, **SHARED)) for name in ("reconstruction", "barlow", "mae", "spatial-cpc")
    }
    assert told == {
        "reconstruction": "", "barlow": "with rssm", "mae": "patch encoder", "spatial-cpc": "enlarged patches",
    }  # fmt: skip
    beside_rssm = model_of("vicreg", SPEC, **(SHARED | {"dynamics": "rssm"}))
    assert told_of(beside_rssm, "rssm") == "features" and told_of(beside_rssm) == "with rssm, features"


def test_what_learns_from_imagined_features_has_the_dynamics_that_live_on_it():
    model = model_of("consistency", SPEC, **SHARED)
    assert isinstance(model.dynamics, SimNormDynamicsConfig)
    models = {name: model_of(name, SPEC, **SHARED) for name in ("barlow", "consistency", "cpc")}
    untrained = beside(list(models.values()))
    assert list(untrained) == [RANDOM, f"{RANDOM}, simnorm"]
    assert [one.dynamics for one in untrained.values()] == [models[n].dynamics for n in ("barlow", "consistency")]
    assert list(beside([models["cpc"]])) == [RANDOM] and beside([models["cpc"]])[RANDOM].dynamics is None


def test_what_failed_is_in_the_table():
    rows = [
        {"objective": "cpc", "condition": "clean", "seed": 0, "r2": {"embedding linear": [0.5]}, "effective_rank": {}},
        {"objective": "cpc", "condition": "clean", "seed": 1, "r2": {}, "failed": "nan", "effective_rank": {}},
        {"objective": "byol", "condition": "clean", "seed": 0, "r2": {}, "failed": "nan", "effective_rank": {}},
    ]
    found = table([row | {"milliseconds": 0.0} for row in rows], ["byol", "cpc"], ["clean"], [10], "embedding")
    assert "| cpc |  | 0.50 (1 failed) |" in found and "| byol |  | – (1 failed) |" in found
    assert found.index("| cpc") < found.index("| byol")


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
        assert (found[1].dynamics is None) == (other == RANDOM_PATCHES), (
            "features are known of it where they are of others"
        )


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


def test_long_names_are_wrapped_where_they_have_a_seam():
    name = "cpc,negatives=episode+vicreg,between=views,augmentation.exchange=yes:0.1"
    assert wrapped(name).splitlines() == [
        "cpc,negatives=episode+vicreg,",
        "between=views,",
        "augmentation.exchange=yes:0.1",
    ]
    assert wrapped("ntxent") == "ntxent"
