"""Objectives between filtered features and the embeddings of the same steps, beside plain loops."""

import pytest
import torch
from small import model, shaken, stream

from worldmodel import objectives


def make(name: str, one, **options):
    torch.manual_seed(0)
    context = {"spec": one.spec, "embed_dim": one.encoder.embed_dim, "feature_dim": one.feature_dim}
    return shaken(objectives.make(name, options=options, **context))


def pairs(objective, scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Projected features and embeddings of all steps, as rows of float64."""
    features, embedding = scene.features("filtered"), scene.embedding
    rows = [(objective.projector(features[b, t]), embedding[b, t]) for b in range(6) for t in range(5)]
    return tuple(torch.stack(column).double() for column in zip(*rows, strict=True))


def test_barlow_is_the_cross_correlations_distance_from_the_identity():
    one, steps = model(), stream()
    objective, scene = make("barlow", one, weight=0.3, redundancy=0.01), one.scene(steps)
    x, y = pairs(objective, scene)
    total = 0.0
    for i in range(8):
        for j in range(8):
            a, b = x[:, i] - x[:, i].mean(), y[:, j] - y[:, j].mean()
            correlation = (a / x[:, i].std() * b / y[:, j].std()).sum() / 30
            total += (correlation - 1) ** 2 if i == j else 0.01 * correlation**2
    torch.testing.assert_close(objective(scene).losses["barlow"].double(), 0.3 * total, rtol=1e-4, atol=1e-5)


def test_infonce_is_the_cross_entropy_of_the_own_embedding_among_all():
    one, steps = model(), stream()
    objective, scene = make("infonce", one, weight=0.7), one.scene(steps)
    x, y = pairs(objective, scene)
    losses, found = [], 0
    for n in range(30):
        scores = torch.stack([x[n] @ y[k] for k in range(30)])
        losses.append(scores.exp().sum().log() - scores[n])
        found += int(scores.argmax() == n)
    outcome = objective(scene)
    expected = 0.7 * torch.stack(losses).mean()
    torch.testing.assert_close(outcome.losses["infonce"].double(), expected, rtol=1e-4, atol=1e-5)
    assert outcome.metrics["infonce_found"].item() == pytest.approx(found / 30)


@pytest.mark.parametrize("name", ["barlow", "infonce"])
def test_the_embedding_learns_through_the_posterior_alone(name):
    one, steps = model(), stream()
    objective, scene = make(name, one), one.scene(steps)
    features = scene.features("filtered").detach().requires_grad_()
    scene.features = lambda source: features
    (loss,) = objective(scene).losses.values()
    loss.backward()
    assert features.grad.any() and all(p.grad is None for p in one.encoder.parameters())
    (loss,) = make(name, one)(one.scene(steps)).losses.values()
    loss.backward()
    assert all(p.grad.any() for p in one.encoder.parameters())


def test_barlow_is_least_where_the_features_say_what_the_embedding_says():
    one, steps = model(), stream()
    objective, scene = make("barlow", one, redundancy=0.0), one.scene(steps)
    scene.features = lambda source: torch.cat([scene.embedding, torch.randn(6, 5, 8)], -1)
    with torch.no_grad():
        objective.projector.weight.copy_(torch.eye(8, 16))
    assert objective(scene).losses["barlow"] < 1e-2 < make("barlow", one)(one.scene(steps)).losses["barlow"]


@pytest.mark.parametrize("scope", ["batch", "episode", "time"])
def test_infonces_negatives_are_what_their_scope_says(scope):
    one, steps = model(), stream()
    objective, scene = make("infonce", one, negatives=scope), one.scene(steps)
    predicted = objective.projector(scene.features("filtered")).flatten(0, 1).double()
    target, losses = scene.embedding.flatten(0, 1).double(), []
    episode, length = scene.episode.flatten().tolist(), scene.length
    for n in range(len(target)):

        def counts(m: int, n: int = n) -> bool:
            together, at_once = episode[m] == episode[n], m % length == n % length
            wanted = {"batch": True, "episode": together and not at_once, "time": at_once and not together}
            return m == n or wanted[scope]

        scores = torch.stack([predicted[n] @ target[m] for m in range(len(target)) if counts(m)])
        losses.append(scores.exp().sum().log() - predicted[n] @ target[n])
    found = objective(scene).losses["infonce"].double()
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
