"""Augmentation changes copies, and by the given generator alone."""

import torch

from rlco.data.augment import ColourJitter, RandomCrop, centre_window


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (6, 20, 24, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_the_same_generator_gives_the_same_pictures_and_leaves_the_originals() -> None:
    for change in (ColourJitter(), RandomCrop(area=0.7)):
        image = pictures()
        first, second = (change(image, generator=torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, second)
        assert first.dtype == torch.uint8
        assert not torch.equal(first, image)
        assert torch.equal(image, pictures())


def test_the_whole_picture_is_not_moved() -> None:
    assert torch.equal(RandomCrop(area=1.0)(pictures(), generator=torch.Generator()), pictures())


def test_a_window_is_central_and_never_empty() -> None:
    assert centre_window(10, 0.25) == slice(2, 7)  # 5 of 10: the odd pixel goes to the right
    assert centre_window(1, 0.01) == slice(0, 1)


def test_what_is_outside_of_the_window_repeats_the_edge() -> None:
    rows = torch.arange(10, dtype=torch.uint8).view(1, 10, 1, 1).expand(50, -1, 10, 3).contiguous()
    moved = RandomCrop(area=0.25)(rows, generator=torch.Generator().manual_seed(0))
    for each in moved[:, :, 0, 0].tolist():
        shift = each[4] - 4
        assert each == [min(max(i + shift, 0), 9) for i in range(10)]
