"""What a schedule sees: counting paths and the gradient of the network agree, and the picture shows it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import small_model
from wavenet import PredictionConfig, WaveNetConfig
from wavenet.network import count_paths, describe_sight, measure_reach
from wavenet.network.receptive_field import describe_reach
from wavenet.reporting import draw_cone

SCHEDULES = [
    ((1, 2, 4, 8), 2, 16),
    ((2, 4, 8, 16), 2, 16),
    ((1, 2, 4, 1, 2, 4), 2, 15),
    ((1, 4, 16), 2, 8),
    ((1, 3, 9), 3, 27),
    ((2, 2), 3, 5),
    ((1, 1, 1), 2, 4),
    ((2,), 2, 2),
    ((27,), 2, 2),
    ((3,), 17, 17),
]


@pytest.mark.parametrize(("dilations", "kernel", "seen"), SCHEDULES, ids=str)
def test_paths_and_gradient_agree_on_what_is_seen(dilations: Sequence[int], kernel: int, seen: int) -> None:
    *_, counts = count_paths(dilations, kernel)
    assert len(counts) == WaveNetConfig(dilations=dilations, kernel_size=kernel).receptive_field
    assert torch.equal(measure_reach(dilations, kernel), counts > 0)
    assert int((counts > 0).sum()) == seen
    assert counts.sum() == kernel ** len(dilations), "each path takes one tap of each layer"


def test_a_stack_that_starts_at_dilation_2_never_sees_half_of_its_input() -> None:
    *_, counts = count_paths([2, 4, 8, 16], 2)
    assert torch.nonzero(counts == 0)[:, 0].tolist() == list(range(1, 31, 2))
    found = describe_reach(counts > 0, 1000)
    assert found == (
        "sees 16 of the last 31 samples (31.0 ms); never those 1, 3, 5, 7 and 11 more runs before the newest"
    )


def test_what_only_linear_prediction_sees_is_not_denied() -> None:
    model = small_model(dilations=(2, 4, 8), prediction=PredictionConfig(source="past", order=4, block=7, window=20))
    symbols = model.encode(torch.randn(1, model.context, generator=torch.Generator().manual_seed(0)) / 10)
    other = symbols.clone()
    other[0, -2] += 20
    assert not torch.equal(model(symbols), model(other)), "the sample before the newest, where the stack has a hole"
    found = describe_sight(model)
    assert found.startswith("Its stack of layers sees 8 of the last 15 samples (0.9 ms); never those 1, 3, 5, 7 and 3")
    assert found.endswith("linear prediction also takes in the last 27 samples")


def test_counts_too_many_for_a_float_stay_finite() -> None:
    *_, counts = count_paths([1] * 1100, 4)
    assert bool(counts.isfinite().all())
    assert bool((counts > 0).all())


@pytest.mark.parametrize(("dilations", "kernel", "seen"), SCHEDULES, ids=str)
def test_the_picture_marks_the_inputs_that_are_seen(dilations: Sequence[int], kernel: int, seen: int) -> None:
    (axes,) = draw_cone(dilations, kernel, 16000).axes
    bottom = [line for line in axes.lines if line.get_marker() == "o" and set(line.get_ydata()) == {0}]
    marked = {line.get_markerfacecolor() == "none": sorted(-line.get_xdata()) for line in bottom}
    reached = measure_reach(dilations, kernel)
    assert marked[False] == torch.nonzero(reached)[:, 0].tolist()
    assert marked.get(True, []) == torch.nonzero(~reached)[:, 0].tolist(), "the others are hollow"


def test_a_wide_cone_is_shaded_by_the_share_that_is_seen() -> None:
    (above, _) = draw_cone([2, 4, 8, 16, 32, 64, 128, 256, 512], 2, 16000).axes
    opacity = above.images[0].get_array()[..., 3]
    assert opacity[0].mean() == pytest.approx(0.5, abs=0.01), "half of the inputs"
    assert opacity[-1].sum() == pytest.approx(1, abs=0.01), "one output, at the newest sample"
    assert opacity[-1, -1] > 0.5


def test_inspect_names_the_holes_and_draws_them(wavenet, tmp_path: Path) -> None:
    recipe = tmp_path / "gaps.toml"
    recipe.write_text('dataset = "d"\nrun = "r"\n[model]\ndilations = [2, 4, 8]\n[train]\nsteps = 1\n')
    result = wavenet("inspect", recipe, "--plot", tmp_path / "out.svg")
    assert "sees 8 of the last 15 samples (0.9 ms); never those 1, 3, 5, 7 and 3 more runs" in result.out
    assert "8 inputs reach the output" in result.err
    assert (tmp_path / "out.svg").read_text().count("<svg") == 1
    wavenet("inspect", recipe, "--plot", tmp_path / "out.svg").fails_with("out.svg exists", "--force")
    assert wavenet("inspect", recipe, "--plot", tmp_path / "out.png", "--json").status == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    wavenet("inspect", recipe, "--plot", tmp_path / "out.txt").fails_with("out.txt", ".svg")
    assert not (tmp_path / "out.txt").exists()
    recipe.write_text(recipe.read_text().replace("[2, 4, 8]", "[1, 65536]"))
    wavenet("inspect", recipe, "--plot", tmp_path / "wide.svg").fails_with("65,538 samples", "leave --plot out")
    recipe.write_text(recipe.read_text().replace("[1, 65536]", str([1] * 300)))
    assert "301 inputs reach the output" in wavenet("inspect", recipe, "--plot", tmp_path / "d.svg").err
    assert wavenet("inspect", recipe).status == 0
