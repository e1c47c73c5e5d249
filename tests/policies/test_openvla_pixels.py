"""Pictures as OpenVLA sees them."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from rlco.data.augment import RandomCrop, centre_window
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.openvla.inputs import to_pixels
from rlco.policies.openvla.interface import Interface

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-1.0,) * 7, high=(1.0,) * 7))


def pictures(height: int, width: int, count: int = 2) -> torch.Tensor:
    """Return noise with soft and hard edges."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    noise[0, : height // 2] = 255
    noise[0, :, : width // 3] //= 4
    return noise


@pytest.mark.parametrize(("height", "width", "size"), [(128, 128, 96), (480, 640, 224), (64, 48, 96), (32, 32, 32)])
def test_resizing_is_pils_bicubic_without_keeping_the_aspect(height: int, width: int, size: int) -> None:
    image = pictures(height, width)
    seen = (to_pixels(image, size=size)[:, 3:] + 1) / 2  # SigLIP's half is 2x - 1
    for found, each in zip(seen, image, strict=True):
        resized = Image.fromarray(each.numpy()).resize((size, size), Image.Resampling.BICUBIC)
        wanted = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
        assert float((found - wanted).abs().max()) < 1.01 / 255


def test_the_two_halves_are_normalised_each_in_its_own_way() -> None:
    image = pictures(32, 32)
    plain = image.permute(0, 3, 1, 2).double() / 255
    found = to_pixels(image, size=32)
    for channel in range(3):
        torch.testing.assert_close(found[:, channel].double(), (plain[:, channel] - MEAN[channel]) / STD[channel])
        torch.testing.assert_close(found[:, 3 + channel].double(), (plain[:, channel] - 0.5) / 0.5)


def test_the_centre_that_is_kept_has_nine_tenths_of_the_area() -> None:
    side = round(224 * math.sqrt(0.9))
    assert centre_window(224, 0.9) == slice(5, 5 + side)
    image = pictures(224, 224)
    inner = image[:, 5 : 5 + side, 5 : 5 + side]
    assert torch.equal(to_pixels(image, size=96, crop_area=0.9), to_pixels(inner, size=96))
    assert torch.equal(to_pixels(image, size=96, crop_area=1.0), to_pixels(image, size=96))


def test_a_random_crop_and_the_policys_centre_are_one_random_window() -> None:
    image = pictures(64, 80, count=1).expand(300, -1, -1, -1)
    moved = RandomCrop(area=0.9)(image, generator=torch.Generator().manual_seed(1))
    rows, columns = centre_window(64, 0.9), centre_window(80, 0.9)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    windows = image[0].unfold(0, height, 1).unfold(1, width, 1).permute(0, 1, 3, 4, 2)
    places = set()
    for each in moved[:, rows, columns]:
        same = (windows == each).flatten(2).all(-1).nonzero()
        assert len(same) == 1, "the centre is no window of the picture"
        places.add(tuple(same[0].tolist()))
    assert {top for top, _ in places} == set(range(64 - height + 1))
    assert {left for _, left in places} == set(range(80 - width + 1))


@pytest.mark.parametrize("area", [0.0, 1.5, -1.0])
def test_an_area_is_a_share(area: float) -> None:
    with pytest.raises(ValueError, match=rf"RandomCrop\.area must be in \(0, 1\], got {area}"):
        RandomCrop(area=area)
    with pytest.raises(ValueError, match=rf"Interface\.crop_area must be in \(0, 1\], got {area}"):
        Interface(codec=CODEC, crop_area=area)
