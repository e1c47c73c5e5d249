import pickle
from collections.abc import Iterator
from dataclasses import replace

import jaxtyping
import pytest
import torch

from rlco.core.policy import Observation


def seen(count: int = 3, first: int = 0) -> Observation:
    row = torch.arange(first, first + count)
    return Observation(
        image=row.to(torch.uint8)[:, None, None, None].expand(-1, 4, 6, 3),
        state=row[:, None].float().expand(-1, 8),
        instruction=tuple(f"task {i}" for i in row.tolist()),
        cameras={"wrist": (row + 100).to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)},
    )


def test_selecting_and_stacking_keep_every_camera_with_its_row() -> None:
    whole = Observation.concatenate([seen(3), seen(2, first=3)])
    for index in (torch.tensor([4, 1]), torch.tensor([False, True, False, False, True])):
        part = whole.select(index)
        rows = [4, 1] if index.dtype != torch.bool else [1, 4]
        assert part.instruction == tuple(f"task {i}" for i in rows)
        assert part.image[:, 0, 0, 0].tolist() == rows
        assert part.cameras["wrist"][:, 0, 0, 0].tolist() == [100 + i for i in rows]
        assert part.state[:, 0].tolist() == rows


def test_a_camera_is_found_by_its_name_and_a_missing_one_is_named_with_those_there_are() -> None:
    whole = seen()
    assert whole.camera("front") is whole.image
    assert whole.camera("wrist") is whole.cameras["wrist"]
    with pytest.raises(ValueError, match="looks through camera 'top', the observation has: front, wrist"):
        whole.camera("top")


def test_observations_of_other_cameras_do_not_stack() -> None:
    with pytest.raises(ValueError, match=r"cameras \['wrist'\] and \[\] do not stack"):
        Observation.concatenate([seen(), replace(seen(), cameras={})])


@pytest.fixture
def as_installed() -> Iterator[None]:
    """Switch off the type checks that run under pytest only: users meet the errors behind them."""
    jaxtyping.config.update("jaxtyping_disable", True)  # noqa: FBT003  (its interface)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)  # noqa: FBT003


@pytest.mark.usefixtures("as_installed")
def test_a_picture_that_is_no_uint8_rgb_batch_is_refused() -> None:
    whole = seen()
    with pytest.raises(ValueError, match=r"image must be uint8 \(3, height, width, 3\), got float32 \(3, 4, 6, 3\)"):
        replace(whole, image=whole.image.float())
    with pytest.raises(ValueError, match=r"got uint8 \(3, 3, 4, 6\)"):
        replace(whole, image=whole.image.permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"got uint8 \(4, 6, 3\)"):
        replace(whole, image=whole.image[0])
    with pytest.raises(ValueError, match=r"cameras\['wrist'\] must be uint8 \(3, .* got uint8 \(1, 2, 2, 3\)"):
        replace(whole, cameras={"wrist": whole.cameras["wrist"][:1]})
    with pytest.raises(ValueError, match=r"'front' is Observation.image"):
        replace(whole, cameras={"front": whole.image})


def test_an_observation_crosses_a_process() -> None:
    back = pickle.loads(pickle.dumps(seen()))
    assert torch.equal(back.cameras["wrist"], seen().cameras["wrist"])
