"""Dilated and transposed convolution, by experiment: each claim of README.md is computed and asserted here.

    python recipes/convolutions/convolutions.py [FOLDER]        # also draws the pictures, into FOLDER

`tests/test_convolutions.py` runs every function whose name begins with `claim_`.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.options import check_output
from wavenet.network import CausalConv1d
from wavenet.reporting import draw_cone_on, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = ("two.png", "cones.png", "overlap.png", "images.png")


def stack(dilations: Sequence[int]) -> torch.nn.Sequential:
    """Causal layers as WaveNet's, of 2 taps and 4 channels; all weights are one, so that no two paths cancel."""
    layers = [CausalConv1d(4, 4, kernel_size=2, dilation=dilation) for dilation in dilations]
    for layer in layers:
        torch.nn.init.ones_(layer.weight)
    return torch.nn.Sequential(*layers).double()


def seen_by_gradient(dilations: Sequence[int], longer: int = 0) -> Tensor:
    """Which inputs reach the newest output of a stack: `(T,)`, true where the gradient is not zero.

    There are as many inputs as the formula says, and `longer` more.
    """
    x = torch.zeros(1, 1 + sum(dilations) + longer, 4, dtype=torch.float64, requires_grad=True)
    stack(dilations)(x)[0, -1].sum().backward()
    return (x.grad[0] != 0).any(dim=1)


def paths(dilations: Sequence[int]) -> Tensor:
    """The number of ways from each input to the newest output, by multiplying out the polynomials of two taps.

    (`wavenet.network.receptive_field.count_paths` adds them up; this is another derivation.)
    """
    count = torch.ones(1, dtype=torch.float64)
    for dilation in dilations:
        taps = torch.zeros(dilation + 1, dtype=torch.float64)
        taps[::dilation] = 1
        count = functional.conv1d(functional.pad(count, [dilation] * 2)[None, None], taps[None, None])[0, 0]
    return count


def claim_a_dilated_kernel_is_the_plain_kernel_with_zeros_between_its_taps() -> str:
    torch.manual_seed(0)
    x, kernel = torch.randn(1, 1, 50, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    comb = torch.kron(kernel, torch.tensor([1.0, 0, 0, 0], dtype=torch.float64))[:-3]
    dilated = functional.conv1d(x, kernel[None, None], dilation=4)
    with_zeros = functional.conv1d(x, comb[None, None])
    assert len(comb) == 9
    assert torch.equal(dilated, with_zeros)
    return f"3 taps, step 4: as 9 taps of which {int((comb == 0).sum())} are zero, the outputs are equal to the bit"


def claim_four_inputs_tell_them_apart() -> str:
    x, kernel = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.ones(1, 1, 2)
    dilated = functional.conv1d(functional.pad(x, (2, 0)), kernel, dilation=2)[0, 0].int().tolist()
    transposed = functional.conv_transpose1d(x, kernel, stride=2)[0, 0].int().tolist()
    assert functional.conv1d(x, kernel, dilation=2).shape[2] == 4 - (2 - 1) * 2
    assert len(transposed) == (4 - 1) * 2 + 2
    return f"{', '.join(map(str, dilated))} | {', '.join(map(str, transposed))}"


def claim_a_dilated_convolution_keeps_the_resolution_and_the_weights() -> str:
    x, kernel = torch.randn(1, 1, 100), torch.randn(1, 1, 3)
    lengths = [functional.conv1d(x, kernel, dilation=d, padding=d).shape[2] for d in (1, 2, 4, 8)]
    assert lengths == [100] * 4
    return f"100 samples in, {lengths} out at dilations 1, 2, 4, 8, padded at both ends, with the same 3 weights"


def claim_in_two_dimensions_a_3x3_kernel_reads_nine_inputs_over_9x9() -> str:
    x = torch.zeros(1, 1, 9, 9, requires_grad=True)
    functional.conv2d(x, torch.ones(1, 1, 3, 3), dilation=4).backward()
    rows, columns = torch.nonzero(x.grad[0, 0], as_tuple=True)
    assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == [0, 4, 8]
    assert len(rows) == 9
    return "a 3x3 kernel at dilation 4 reads rows and columns 0, 4 and 8 of 9x9: nine inputs of 81"


def claim_dilation_is_counted_as_a_step_here_and_as_zeros_elsewhere() -> str:
    kernel, x = torch.tensor([1.0, 2.0, 3.0]), torch.randn(1, 1, 30)
    results = []
    for zeros in (0, 1, 3):
        comb = torch.zeros(3 + 2 * zeros)
        comb[:: zeros + 1] = kernel
        step = functional.conv1d(x, kernel[None, None], dilation=zeros + 1)
        assert torch.equal(step, functional.conv1d(x, comb[None, None]))
        results.append(f"zeros: {zeros}, step: {zeros + 1}")
    return "; ".join(results) + " (PyTorch and the WaveNet paper give the step)"


def claim_doubling_dilations_widen_the_view_exponentially_at_linear_cost() -> str:
    rows = ["layers | parameters | doubling sees | undilated sees"]
    for depth in (1, 2, 4, 6, 8, 10):
        doubling, plain = [2**i for i in range(depth)], [1] * depth
        assert bool(seen_by_gradient(doubling).all()), "every input is seen"
        assert torch.equal(paths(doubling), torch.ones(2**depth, dtype=torch.float64)), "and by one path"
        seen, seen_plain = (int(seen_by_gradient(dilations, longer=9).sum()) for dilations in (doubling, plain))
        assert (seen, seen_plain) == (2**depth, depth + 1), "and no input farther back"
        cost, plain_cost = (sum(map(torch.numel, stack(dilations).parameters())) for dilations in (doubling, plain))
        assert cost == plain_cost == depth * 36, "2 taps of 4 by 4 weights, 4 biases"
        rows.append(f"{depth} | {cost} | {seen} | {seen_plain}")
    return "\n    ".join(rows)


def claim_strides_and_pooling_lose_the_resolution_that_dilation_keeps() -> str:
    x, taps = torch.randn(1, 1, 1024, requires_grad=True), torch.ones(1, 1, 2)
    strided = pooled = dilated = x
    for layer in range(4):
        strided = functional.conv1d(strided, taps, stride=2)
        pooled = functional.avg_pool1d(pooled, 2)
        dilated = functional.conv1d(functional.pad(dilated, (2**layer, 0)), taps, dilation=2**layer)
    for outputs in (strided, pooled, dilated):
        (gradient,) = torch.autograd.grad(outputs[0, 0, -1], x)
        assert torch.nonzero(gradient[0, 0])[:, 0].tolist() == list(range(1024 - 16, 1024))
    torch.testing.assert_close(dilated[:, :, 15::16], strided)  # the strided outputs are among the dilated ones
    torch.testing.assert_close(dilated[:, :, 15::16] / 16, pooled)  # and the pooled ones are their sixteenths
    lost = f"{strided.shape[2]} outputs with strides, {pooled.shape[2]} with pooling"
    return f"four layers that see 16 samples: {lost}, {dilated.shape[2]} with dilation"


def claim_schedules_without_a_plain_layer_leave_holes() -> str:
    answers = []
    for schedule in ([1, 2, 4, 8], [2, 4, 8, 16], [1, 4, 16], [1, 1, 2, 4, 8]):
        seen = seen_by_gradient(schedule)
        assert torch.equal(seen, paths(schedule) > 0), "counting paths and the gradient agree"
        answers.append(f"{schedule} sees {int(seen.sum())} of {len(seen)}")
    assert not seen_by_gradient([2, 4, 8, 16]).flip(0)[1::2].any(), "every second input is never seen"
    return "; ".join(answers)


def claim_causal_padding_stands_on_one_side_only() -> str:
    x = torch.randn(1, 1, 20, requires_grad=True)
    kernel = torch.ones(1, 1, 3)
    latest = {}
    for name, pad in (("left", (4, 0)), ("both", (2, 2))):
        (gradient,) = torch.autograd.grad(functional.conv1d(functional.pad(x, pad), kernel, dilation=2)[0, 0, 10], x)
        latest[name] = int(torch.nonzero(gradient[0, 0]).max())
    assert latest == {"left": 10, "both": 12}
    newest = f"{latest['left']} with causal padding, {latest['both']} with symmetric"
    return f"3 taps, dilation 2: the newest input that output 10 sees is {newest}"


def claim_padding_of_zeros_is_heard_at_the_edge() -> str:
    ones = torch.ones(1, 1, 12)
    padded = functional.conv1d(functional.pad(ones, (4, 0)), torch.full((1, 1, 3), 1 / 3), dilation=2)[0, 0]
    assert torch.allclose(padded[4:], torch.ones(8))
    assert torch.allclose(padded[:4], torch.tensor([1 / 3, 1 / 3, 2 / 3, 2 / 3]))
    return f"a mean of three inputs, 2 apart, over a constant 1: {[round(v, 2) for v in padded[:6].tolist()]}, ..."


def claim_a_transposed_convolution_is_the_gradient_of_a_convolution() -> str:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 23, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(1, 1, 5, dtype=torch.float64)
    y = functional.conv1d(x, kernel, stride=3)
    outgoing = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, outgoing)
    transposed = functional.conv_transpose1d(outgoing, kernel, stride=3)
    torch.testing.assert_close(transposed, gradient, atol=1e-14, rtol=0)
    matrix = torch.autograd.functional.jacobian(lambda v: functional.conv1d(v, kernel, stride=3).flatten(), x.detach())
    torch.testing.assert_close((outgoing.flatten() @ matrix[:, 0, 0])[None, None], transposed, atol=1e-14, rtol=0)
    sizes = f"{y.shape[2]} values to {transposed.shape[2]} by 5 taps, stride 3"
    return f"{sizes}: equal to the gradient, and to the transposed matrix's product"


def claim_it_is_a_convolution_after_zeros_between_the_inputs() -> str:
    torch.manual_seed(0)
    x, kernel, stride = torch.randn(1, 1, 6, dtype=torch.float64), torch.randn(1, 1, 5, dtype=torch.float64), 3
    spread = torch.zeros(1, 1, (6 - 1) * stride + 1, dtype=torch.float64)
    spread[:, :, ::stride] = x
    by_zeros = functional.conv1d(functional.pad(spread, (4, 4)), kernel.flip(2))
    transposed = functional.conv_transpose1d(x, kernel, stride=stride)
    torch.testing.assert_close(by_zeros, transposed, atol=1e-14, rtol=0)
    return f"6 inputs, 5 taps, stride 3, zeros between the INPUTS: {transposed.shape[2]} outputs, the same either way"


def claim_the_transposed_one_enlarges_and_the_dilated_one_does_not() -> str:
    x, kernel = torch.randn(1, 1, 40), torch.randn(1, 1, 4)
    dilated = functional.conv1d(functional.pad(x, (6, 0)), kernel, dilation=2)
    transposed = functional.conv_transpose1d(x, kernel, stride=2, padding=1)
    assert (dilated.shape[2], transposed.shape[2]) == (40, 80)
    sizes = "40 out dilated by 2 (6 zeros before), 80 out transposed with stride 2 (1 cut off each end)"
    return f"40 in, the same 4 weights: {sizes}"


def overlaps(kernel: int, stride: int, inputs: int = 8) -> Tensor:
    """How many inputs each output of a transposed convolution is a sum of."""
    return functional.conv_transpose1d(torch.ones(1, 1, inputs), torch.ones(1, 1, kernel), stride=stride)[0, 0]


def claim_uneven_overlap_makes_a_checkerboard() -> str:
    uneven, even = overlaps(3, 2)[2:-2], overlaps(4, 2)[2:-2]
    assert set(uneven.tolist()) == {1.0, 2.0}
    assert set(even.tolist()) == {2.0}
    return f"kernel 3, stride 2: {uneven[:6].int().tolist()}...; kernel 4, stride 2: {even[:6].int().tolist()}..."


def interpolating(scale: int) -> Tensor:
    """The kernel of 2 * scale taps with which a transposed convolution interpolates linearly."""
    ramp = (torch.arange(scale) + 0.5) / scale
    return torch.cat([ramp, ramp.flip(0)])


def claim_initialised_as_interpolation_it_has_none() -> str:
    constant = functional.conv_transpose1d(torch.ones(1, 1, 9), interpolating(4)[None, None], stride=4)[0, 0, 4:-4]
    torch.testing.assert_close(constant, torch.ones_like(constant))
    ramp = torch.arange(9.0)[None, None]
    line = functional.conv_transpose1d(ramp, interpolating(4)[None, None], stride=4)[0, 0, 4:-4]
    torch.testing.assert_close(line.diff(), torch.full_like(line[1:], 0.25))
    torch.manual_seed(0)
    rough = functional.conv_transpose1d(torch.ones(1, 1, 9), torch.rand(1, 1, 8), stride=4)[0, 0, 4:-4]
    assert float(rough.std()) > 0.1
    assert set(overlaps(7, 4)[6:-6].tolist()) == {1.0, 2.0}, "WaveNet's kernels overlap unevenly, and stay even"
    spread = f"of a random kernel: standard deviation {float(rough.std()):.2f}"
    return f"at stride 4 a constant stays one ({spread}), a ramp rises by 1/4 each output"


def claim_wavenet_uses_dilation_in_the_stack_and_transposition_for_its_features() -> str:
    from wavenet import WaveNet, WaveNetConfig
    from wavenet.network.features import LogMelConfig
    from wavenet.network.upsample import TransposedUpsampler

    model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=6, features=LogMelConfig(hop=200)))
    dilations = [block.conv.dilation for block in model.blocks]
    transposed = [module for module in model.modules() if isinstance(module, torch.nn.ConvTranspose1d)]
    strides, kernels = ([getattr(module, name)[0] for module in transposed] for name in ("stride", "kernel_size"))
    assert dilations == [1, 2, 4, 8, 16, 32]
    assert strides == [10, 20]
    fresh, frames = TransposedUpsampler(1, strides), torch.arange(5.0)[None, None]
    with torch.no_grad():
        torch.testing.assert_close(fresh(torch.ones_like(frames)), torch.ones(1, 1, 801))
        torch.testing.assert_close(fresh(frames)[0, 0], torch.arange(801) / 200, atol=1e-5, rtol=0)
    return (
        f"dilations {dilations} at the sample rate; strides {strides} and kernels {kernels} from frames to samples, "
        "200 in all: fresh ones keep a constant, and a line a line"
    )


def dilated_context(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Multi-scale context aggregation (Yu & Koltun 2016): 3x3 means over ever wider grids, at full resolution."""
    kernel = torch.full((1, 1, 3, 3), 1 / 9)
    for dilation in dilations:
        image = functional.conv2d(functional.pad(image, [dilation] * 4, mode="reflect"), kernel, dilation=dilation)
    return image


def upsampled_scores(image: Tensor, scale: int = 8) -> tuple[Tensor, Tensor]:
    """As fully convolutional networks do (Long et al. 2015): pool, then upsample by a transposed convolution."""
    coarse = functional.avg_pool2d(image, scale)
    kernel = torch.outer(interpolating(scale), interpolating(scale))
    padded = functional.pad(coarse, [1] * 4, mode="replicate")
    fine = functional.conv_transpose2d(padded, kernel[None, None], stride=scale)
    edge = scale + scale // 2
    return coarse, fine[:, :, edge:-edge, edge:-edge]


def small_image() -> Tensor:
    """A photograph that comes with matplotlib (Grace Hopper; US Navy, public domain): grey, `(1, 1, 96, 80)`."""
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    pixels = torch.tensor(imread(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return functional.avg_pool2d(pixels.double().mean(dim=2)[None, None] / 255, 6)[:, :, :96, :80].float()


def claim_images_have_the_same_two_tools() -> str:
    image = small_image()
    context, (coarse, fine) = dilated_context(image, (1, 2, 4)), upsampled_scores(image)
    assert context.shape == fine.shape == image.shape
    assert coarse.shape[2:] == (image.shape[2] // 8, image.shape[3] // 8)
    spot = torch.zeros(1, 1, 41, 41)
    spot[0, 0, 20, 20] = 1
    ways = (dilated_context(spot, (1, 2, 4))[0, 0] * 9**3).round()
    reached = torch.nonzero(ways)
    assert (reached.max(dim=0).values - reached.min(dim=0).values + 1).tolist() == [15, 15]
    assert len(reached) == 15 * 15, "without holes"
    bilinear = functional.interpolate(coarse, scale_factor=8.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine, bilinear)
    scores = f"{tuple(coarse.shape[2:])} scores upsampled to {tuple(fine.shape[2:])}"
    by = f"by {int(ways[ways > 0].min())} to {int(ways.max())} paths"
    return f"3x3 at 1, 2, 4 sees 15x15, {by}, at full resolution; {scores}"


def claims() -> dict[str, str]:
    """Every claim, as a sentence, and what was found."""
    return {
        name.removeprefix("claim_").replace("_", " "): function()
        for name, function in globals().items()
        if name.startswith("claim_")
    }


def draw_products_on(
    axis: "Axes", convolve: Callable[..., Tensor], x: Sequence[float], places: Sequence[float]
) -> None:
    """Inputs at their places, below, and what a convolution with the kernel 1, 1 gives: a line for each product."""
    gives = convolve(torch.eye(len(x))[:, None], torch.ones(1, 1, 2))[:, 0]  # what each input gives to each output
    y = (torch.tensor(x) @ gives).tolist()
    colours = {False: "#8a8f98", True: "#3b6ea5"}
    for bottom, top in gives.nonzero().tolist():
        axis.plot([places[bottom], top], [0, 1], color=colours[x[bottom] > 0], zorder=1)
    for height, row, values in ((0, places, x), (1, range(len(y)), y)):
        axis.scatter(row, [height] * len(row), s=330, color=[colours[value > 0] for value in values])
        for place, value in zip(row, values, strict=True):
            axis.text(place, height, f"{value:.0f}", color="white", ha="center", va="center_baseline")
    axis.margins(0.07, 0.3)
    axis.set(xticks=[], yticks=[0, 1], yticklabels=["inputs", "outputs"], frame_on=False)
    axis.tick_params(length=0)


def draw(folder: Path) -> list[Path]:
    from matplotlib.figure import Figure

    two = Figure(figsize=(9, 2.6), layout="constrained")
    left, right = two.subplots(1, 2, width_ratios=(6, 8))
    left.set_title("dilated by 2, after two zeros")
    draw_products_on(left, partial(functional.conv1d, dilation=2), [0.0, 0, 1, 2, 3, 4], range(-2, 4))
    right.set_title("transposed, stride 2")
    draw_products_on(right, partial(functional.conv_transpose1d, stride=2), [1.0, 2, 3, 4], [0.5, 2.5, 4.5, 6.5])
    cones = Figure(figsize=(9, 6), layout="constrained")
    for axis, schedule in zip(cones.subplots(3, 1), ([1, 2, 4, 8], [1, 1, 1, 1], [2, 4, 8, 16]), strict=True):
        seen = seen_by_gradient(schedule)
        draw_cone_on(axis, schedule, kernel_size=2)
        axis.set(title=f"dilations {schedule}: {int(seen.sum())} of {len(seen)} inputs seen", xlim=(-30.6, 0.6))
    overlap = Figure(figsize=(9, 2.6), layout="constrained")
    for axis, kernel in zip(overlap.subplots(1, 2), (3, 4), strict=True):
        counts = overlaps(kernel, 2)
        axis.bar(range(len(counts)), counts.tolist(), color="#3b6ea5")
        axis.set(title=f"kernel {kernel}, stride 2: inputs in each output", xlabel="output", yticks=[0, 1, 2])
        axis.set_xticks(range(0, len(counts), 2))
    image = small_image()
    coarse, fine = upsampled_scores(image)
    pictures = {
        "the photograph": image,
        "3x3 means at\ndilations 1, 2, 4": dilated_context(image, (1, 2, 4)),
        "pooled by 8": coarse,
        "and upsampled by a\ntransposed convolution": fine,
    }
    images = Figure(figsize=(9, 3.4), layout="constrained")
    for axis, (title, picture) in zip(images.subplots(1, 4), pictures.items(), strict=True):
        axis.imshow(picture[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        height, width = picture.shape[2:]
        axis.set(title=title, xlabel=f"{height} x {width}", xticks=[], yticks=[])
    drawn = {folder / name: figure for name, figure in zip(PICTURES, (two, cones, overlap, images), strict=True)}
    for path, figure in drawn.items():
        save(figure, path)
    return list(drawn)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where to draw the pictures")
    arguments = parser.parse_args()
    with errors_in_one_line("convolutions.py"):
        if arguments.folder:
            if arguments.folder.exists() and not arguments.folder.is_dir():
                raise ValueError(f"{arguments.folder} is a file; expected a folder to draw into")
            arguments.folder.mkdir(parents=True, exist_ok=True)
            for picture in PICTURES:
                check_output(arguments.folder / picture, force=True)
        for claim, found in claims().items():
            print(f"{claim}:\n    {found}")
        for path in draw(arguments.folder) if arguments.folder else []:
            print(f"wrote {path}")
