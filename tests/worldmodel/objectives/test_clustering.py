import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from rows import bare, pairs
from small import shaken, stream

from worldmodel import WorldModel, WorldModelConfig
from worldmodel.data import Spec
from worldmodel.dynamics import RSSMConfig
from worldmodel.encoders import ConvolutionalEncoderConfig
from worldmodel.heads import RewardHeadConfig
from worldmodel.objectives import PrototypesConfig

SPEC = Spec.from_spaces(spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 1), np.uint8)}), spaces.Box(-1, 1, (2,)))


def world(**options) -> WorldModel:
    torch.manual_seed(0)
    config = WorldModelConfig(
        encoder=ConvolutionalEncoderConfig(depth=1),
        dynamics=RSSMConfig(deterministic=16, hidden=8, groups=4, classes=3, blocks=2),
        objectives=(PrototypesConfig(**{"prototypes": 6, "dim": 4, "shift": 1} | options),),
        reward=RewardHeadConfig(units=8),
        continuation=None,
        learn_on="filtered",
    )
    return shaken(WorldModel(config, SPEC))


def steps():
    one = stream(SPEC)
    camera = torch.randint(0, 256, (6, 5, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return one._replace(observation={"camera": camera})


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm()


def test_losses_are_swapped_assignments_own_assignments_and_norms():
    one, batch = world(sinkhorn_temperature=0.05, norm_weight=1.0), steps()
    objective, scene = one.objectives[0], one.scene(batch)
    torch.manual_seed(3)
    losses = objective(scene).losses
    torch.manual_seed(3)
    views = objective.views(batch)
    looks = scene.seen_as(views)
    features = looks.features("filtered")  # drawn after the views, as in the forward
    prototypes = [unit(p) for p in objective.prototypes]
    assert looks.steps.reward.shape == (12, 5)

    def scores(projector, x):
        return torch.stack([unit(projector(x)) @ p for p in prototypes])

    rows = [(b, t) for b in range(12) for t in range(1, 5)]
    targets = {row: scores(objective.target_projector, looks.target_embedding[row]) for row in rows}
    assigned = {}
    for view in (range(6), range(6, 12)):
        mine = [row for row in rows if row[0] in view]
        q = torch.stack([targets[row] / 0.05 for row in mine]).exp().double()
        for _ in range(3):
            q = q / q.sum(0, keepdim=True) / 6
            q = q / q.sum(1, keepdim=True) / len(mine)
        assigned |= dict(zip(mine, (q * len(mine)).float(), strict=True))
    swav, temporal, norm = [], [], []
    for b, t in rows:
        embedding, feature = looks.embedding[b, t], features[b, t]
        other = assigned[(b + 6) % 12, t]
        swav.append(-(other * (scores(objective.embedding_projector, embedding) / 0.1).log_softmax(0)).sum())
        temporal.append(-(assigned[b, t] * (scores(objective.feature_projector, feature) / 0.1).log_softmax(0)).sum())
    for b in range(12):  # the norms of every step, the first ones too
        for t in range(5):
            norm.append((objective.embedding_projector(looks.embedding[b, t]).norm() - 1) ** 2)
            norm.append((objective.feature_projector(features[b, t]).norm() - 1) ** 2)
    expected = {"swav": torch.stack(swav).mean(), "temporal": torch.stack(temporal).mean()}
    expected["norm"] = 2 * torch.stack(norm).mean()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_assignments_are_whole_for_each_step_and_even_over_prototypes():
    objective = world(sinkhorn_iterations=50, sinkhorn_temperature=0.05).objectives[0]
    assigned = objective.assign(torch.rand(6, 4, 6), torch.ones(6, 4))
    torch.testing.assert_close(assigned.sum(-1), torch.ones(6, 4))
    torch.testing.assert_close(assigned.sum((0, 1)), torch.full((6,), 4.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("updates", "learn"), [(0, False), (9, False), (10, True)])
def test_prototypes_stay_as_drawn_at_first(updates, learn):
    one = world(frozen_updates=10)
    objective = one.objectives[0]
    objective.updates.fill_(updates)
    sum(objective(one.scene(steps())).losses.values()).backward()
    assert objective.prototypes.grad.any().item() == learn
    assert objective.embedding_projector.weight.grad.any()


def test_targets_follow_the_online_encoder_and_give_no_gradient():
    one = world(target_rate=0.25)
    objective = one.objectives[0]
    assert not any(
        p.requires_grad for p in (*one.target_encoders.parameters(), *objective.target_projector.parameters())
    )
    before = one.target_encoders[0].layers[0].weight.clone()
    with torch.no_grad():
        one.after_update({}, 0.5)
    expected = 0.75 * before + 0.25 * one.encoder.layers[0].weight
    torch.testing.assert_close(one.target_encoders[0].layers[0].weight, expected)
    torch.testing.assert_close(objective.prototypes.norm(dim=-1), torch.ones(6))
    assert objective.updates == 1


def test_models_without_a_momentum_target_have_no_second_encoder():
    from small import model

    assert not model().target_encoders
    assert not any(name.startswith("target_encoder") for name in model().state_dict())


def test_swav_is_swapped_assignments_of_unit_descriptions():
    given = pairs(12)
    objective = bare("swav", prototypes=5, frozen_updates=0, temperature=0.2, sinkhorn_iterations=2)
    found = objective.compare(given)
    prototypes = F.normalize(objective.prototypes.detach(), dim=1)
    scores = [F.normalize(side, dim=1) @ prototypes.t() for side in (given.one, given.other)]
    rows = [n for n in range(12) if given.weight[n] > 0]
    assigned = []
    for side in scores:
        q = {(n, k): math.exp(side[n, k].item() / 0.05) for n in rows for k in range(5)}
        for _ in range(2):
            for k in range(5):
                total = sum(q[n, k] for n in rows)
                q |= {(n, k): q[n, k] / total / 5 for n in rows}
            for n in rows:
                total = sum(q[n, k] for k in range(5))
                q |= {(n, k): q[n, k] / total / len(rows) for k in range(5)}
        assigned.append({key: value * len(rows) for key, value in q.items()})
    terms = []
    for side, to in zip(scores, reversed(assigned), strict=True):
        log = (side / 0.2).log_softmax(1)
        terms += [-sum(to[n, k] * log[n, k] for k in range(5)) for n in rows]
    torch.testing.assert_close(found.loss, torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


def test_deepcluster_is_the_cross_entropy_of_the_twins_cluster():
    given = pairs(9)
    objective = bare("deepcluster", prototypes=4, clusterings=2, temperature=0.3)
    sides = [F.normalize(side, dim=1) for side in (given.one, given.other)]
    terms = []
    for side, twin in (sides, sides[::-1]):
        for centroids in objective.centroids:
            for n in (n for n in range(9) if given.weight[n] > 0):
                cluster = max(range(4), key=lambda k: float(twin[n] @ centroids[k]))
                scores = torch.stack([side[n] @ centroid / 0.3 for centroid in centroids])
                terms.append(scores.exp().sum().log() - scores[cluster])
    torch.testing.assert_close(objective.compare(given).loss, torch.stack(terms).mean())
    turned = objective.centroids[:, [2, 0, 3, 1]].clone()
    before = objective.compare(given).loss
    objective.centroids.copy_(turned)
    torch.testing.assert_close(objective.compare(given).loss, before, msg="the clusters' order means nothing")


def test_a_refit_begins_from_descriptions_so_that_few_clusters_are_empty():
    objective = bare("deepcluster", prototypes=30, clusterings=2, memory=300, refit_every=2)
    torch.manual_seed(0)
    rows = F.normalize(torch.tensor([3.0, 0.0, 0.0, 0.0]) + torch.randn(300, objective.outputs), dim=1)
    for _ in range(2):
        objective.after_update({"description": rows[:150], "weight": torch.ones(150)}, 0.0)
        rows = rows.flip(0)
    for centroids in objective.centroids:
        assert (objective.memory @ centroids.t()).argmax(1).unique().numel() >= 27
        torch.testing.assert_close(centroids.norm(dim=1), torch.ones(30, dtype=torch.float64))
    assert not torch.equal(*objective.centroids), "each clustering has its own start"


def test_the_first_clusters_are_fitted_once_there_are_as_many_descriptions():
    objective = bare("deepcluster", prototypes=30, clusterings=2, memory=300, refit_every=500)
    drawn = objective.centroids.clone()
    for expected in (False, True, True):
        rows = F.normalize(torch.randn(20, objective.outputs, dtype=torch.float64), dim=1)
        before = objective.centroids.clone()
        objective.after_update({"description": rows, "weight": torch.ones(20)}, 0.0)
        assert torch.equal(objective.centroids, drawn) != expected
    assert torch.equal(objective.centroids, before), "and then only every so often"


def test_a_resumed_deepcluster_fits_its_clusters_when_the_first_would_have():
    first, resumed = (bare("deepcluster", prototypes=30, clusterings=2, memory=300, refit_every=4) for _ in range(2))

    def fits(objective) -> bool:
        before = objective.centroids.clone()
        rows = F.normalize(torch.randn(40, objective.outputs, dtype=torch.float64), dim=1)
        objective.after_update({"description": rows, "weight": torch.ones(40)}, 0.0)
        return not torch.equal(objective.centroids, before)

    assert [fits(first) for _ in range(3)] == [True, False, False]
    resumed.load_state_dict(first.state_dict())
    assert [fits(resumed) for _ in range(5)] == [True, False, False, False, True]


def test_norms_count_only_where_they_have_a_weight():
    one, batch = world(), steps()
    assert set(one.objectives[0](one.scene(batch)).losses) == {"swav", "temporal"}
