import pytest
import torch
from everyone import CAMERA, Place
from small import stream

from worldmodel import objectives
from worldmodel.encoders import Patches

STEPS = stream(size=6, length=4)


@pytest.mark.parametrize("normalise", [False, True])
def test_it_is_the_squared_error_of_the_hidden_patches(normalise):
    place = Place("mae", False, normalise=normalise)
    scene, objective = place.scene(STEPS), place.objective
    loss = place.loss(STEPS)
    torch.manual_seed(1)
    order = torch.rand(6, 4, 4).argsort(-1)
    hidden, kept = order[..., :2], order[..., 2:]
    painted = objective.paint(place.encoder.tokens(scene.steps.observation, kept), kept)
    errors = []
    for b in range(6):
        for t in range(4):
            for p in hidden[b, t].tolist():
                row, column = 4 * (p // 2), 4 * (p % 2)
                pixels = scene.steps.observation["camera"][b, t, row : row + 4, column : column + 4].flatten() / 255
                if normalise:
                    pixels = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
                errors.append((painted[b, t, p] - pixels).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-4, atol=1e-5)


def test_hidden_patches_do_not_reach_what_is_painted_and_visible_ones_are_no_target():
    place = Place("mae", False)
    scene = place.scene(STEPS)
    camera = scene.steps.observation["camera"].float().requires_grad_()
    kept = torch.tensor([0, 3]).expand(6, 4, 2)
    painted = place.objective.paint(place.encoder.tokens({"camera": camera}, kept), kept)
    painted.square().sum().backward()
    reached = camera.grad[0, 0, :, :, 0]
    assert reached[:4, :4].any() and reached[4:, 4:].any()
    assert not reached[:4, 4:].any() and not reached[4:, :4].any()


def test_a_patch_is_painted_in_its_own_place():
    place = Place("mae", False)
    tokens, kept = torch.randn(1, 1, 2, 8), torch.tensor([[[2, 1]]])
    swapped = place.objective.paint(tokens.flip(2), kept.flip(2))
    torch.testing.assert_close(place.objective.paint(tokens, kept), swapped)


def test_it_needs_patches_to_hide_and_some_to_leave():
    with pytest.raises(ValueError, match="add --image-encoder patches .* or take the objective inpainting"):
        objectives.make("mae", spec=CAMERA)
    with pytest.raises(ValueError, match=r"share=0.99 hides 4 of 4 patches"):
        objectives.make("mae", options={"share": 0.99}, spec=CAMERA, patches=Patches(4, 8, 4))
