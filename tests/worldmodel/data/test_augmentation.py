import torch

from worldmodel.data.augmentation import random_shift


def test_a_sequence_is_shifted_as_a_whole_and_its_border_repeated():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8, 2), dtype=torch.uint8)
    vectors = torch.randn(40, 3, 5)
    shifted = random_shift({"camera": images, "depth": images.flip(-1), "pose": vectors}, 2)
    assert torch.equal(shifted["pose"], vectors) and shifted["camera"].dtype is torch.uint8
    padded = torch.nn.functional.pad(images.float().permute(0, 1, 4, 2, 3), (2, 2, 2, 2, 0, 0), mode="replicate")
    seen = set()
    for b in range(40):
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(padded[b, ..., down : down + 8, right : right + 8].permute(0, 2, 3, 1), shifted["camera"][b].float())
        ]  # fmt: skip
        assert len(found) == 1, "one shift for all steps"
        seen |= set(found)
        assert torch.equal(shifted["depth"][b], shifted["camera"][b].flip(-1)), "all images of a sequence alike"
    assert len(seen) > 15 and {down for down, _ in seen} == set(range(5)) == {right for _, right in seen}
