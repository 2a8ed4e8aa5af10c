import pytest
import torch

from tests.conftest import CONDITIONINGS, conditioning_of, model_of_kind
from wavenet import Categorical
from wavenet.network import Alignment


@pytest.mark.parametrize("hop", [1, 3, 200])
@pytest.mark.parametrize("reach", [0, 2])
def test_frames_around_hold_those_that_a_sample_lies_between(hop: int, reach: int) -> None:
    alignment = Alignment(hop=hop, reach=reach)
    for start, stop in ((0, 1), (-5, 7), (hop, hop + 1), (2 * hop + 1, 2 * hop + 2), (7, 3 * hop + 8)):
        first, after = alignment.frames_around(start, stop)
        assert first == start // hop - reach
        newest = stop - 1
        assert after - 1 - reach == (newest // hop if newest % hop == 0 else newest // hop + 1)


def test_as_many_samples_can_be_made_as_frames_allow() -> None:
    alignment = Alignment(hop=10, reach=1)
    frames = 7
    possible = alignment.samples_ready(frames)
    assert alignment.frames_around(possible - 1, possible)[1] <= frames
    assert alignment.frames_around(possible + 1, possible + 2)[1] > frames


def test_windows_of_the_grid_see_frames_and_blocks_alike() -> None:
    alignment = Alignment(hop=12, reach=1, half_window=32, block=9)
    assert alignment.grid == 36
    assert alignment.margin == 72, "three frames of 12 and half a window, up to a multiple of the grid"
    assert Alignment(half_window=1, block=9).margin == 9


@pytest.mark.parametrize("upsampler", CONDITIONINGS)
def test_biases_depend_on_the_frames_around_and_on_no_others(upsampler: str) -> None:
    model = model_of_kind((Categorical(), False, True, None, upsampler))
    conditioning = conditioning_of(model, batch=1)
    features = conditioning.features.requires_grad_()
    for sample in (17, 24, 40):
        (gradient,) = torch.autograd.grad(model.conditioner(conditioning, sample, sample + 1).sum(), features)
        seen = torch.nonzero(gradient.abs().sum(dim=(0, 1)))[:, 0]
        first, after = model.alignment.frames_around(sample, sample + 1)
        assert first <= int(seen.min())
        assert int(seen.max()) < after
