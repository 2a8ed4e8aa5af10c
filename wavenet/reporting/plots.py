"""Pictures of sound, of training and of what a network sees (the `plots` extra).

Each function makes a matplotlib figure. `to_svg` turns it into markup that draws in the page's own text colour, so it
suits light and dark pages; `save` writes it to a file.
"""

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torchaudio import transforms

from wavenet.atomic import write_atomically
from wavenet.network import count_paths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = ("svg", "png", "pdf")

_INK = "#010203"
"""A placeholder, which `to_svg` replaces by the page's text colour."""
_BLUE, _ORANGE, _FAINT = "#3f83c8", "#c8641b", "#8a8f98"
"""Each has a contrast of 3 or more to white and to near-black."""

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "wavenet",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}
_DOTS = 64
"""A cone of at most this many samples is drawn sample by sample."""
_COLUMNS = 800
_WINDOW = 512
"""The length of a spectrogram's frame, in samples."""
_BITS = {"train_bits": "training", "held_out_bits": "held out"}
_LOUDEST, _QUIETEST = -20.0, -100.0
"""The range of a spectrogram's colours, in decibels relative to a full-scale sine: the same in every picture."""


def _figure(width: float, height: float, rows: int, heights: Sequence[float] | None = None) -> tuple["Figure", Any]:
    """A figure of this size in inches, and its axes `(rows,)`; `ValueError` if matplotlib is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("pictures need matplotlib; pip install 'wavenet-toolkit[plots]'") from error
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, 1, squeeze=False, height_ratios=heights)[:, 0]
    return figure, axes


def draw_sound(waveform: Tensor, sample_rate: int) -> "Figure":
    """A waveform `(T,)` above its spectrogram, in kilohertz over seconds."""
    figure, (above, below) = _figure(3.9, 2.4, 2, (1, 2))
    seconds = len(waveform) / sample_rate
    hop = -(-len(waveform) // (_COLUMNS // 2))
    pieces = torch.split(waveform, hop)
    low, high = (torch.stack([extreme(piece) for piece in pieces]).numpy() for extreme in (torch.min, torch.max))
    above.fill_between(torch.arange(len(pieces)) * hop / sample_rate, low, high, color=_BLUE, linewidth=0.3)
    above.set(xlim=(0, seconds), ylim=(-1, 1), xticks=[], yticks=[-1, 0, 1])
    draw_spectrogram_on(below, waveform, sample_rate)
    below.set(xlabel="seconds")
    return figure


def draw_spectrogram_on(axes: "Axes", waveform: Tensor, sample_rate: int) -> None:
    """Draw the spectrogram of a waveform `(T,)`, in kilohertz over seconds. A column shows the loudest of its frames.

    No sample is left out: at each one the window of the nearest frame has at least half its height.
    """
    padded = functional.pad(waveform, (0, max(0, _WINDOW - len(waveform))))
    columns = int(axes.figure.bbox.width)  # matplotlib's pixels, 100 an inch
    samples = -(-len(padded) // columns)
    frames = -(-samples // (_WINDOW // 4))
    hop = -(-samples // frames)
    spectrum = transforms.Spectrogram(n_fft=_WINDOW, hop_length=hop, power=2.0)
    power = functional.max_pool1d(spectrum(padded), frames, ceil_mode=True) / (spectrum.window.sum() / 2) ** 2
    decibels = 10 * power.clamp(min=1e-20).log10()
    ends = [(place * frames - 0.5) * hop / sample_rate for place in (0, power.shape[1])]
    axes.imshow(
        decibels.numpy(),
        origin="lower",
        aspect="auto",
        extent=(ends[0], ends[1], 0, sample_rate / 2000),
        cmap="magma",
        interpolation="none",
        vmin=_QUIETEST,
        vmax=_LOUDEST,
    )
    axes.set(xlim=(0, len(waveform) / sample_rate), ylabel="kHz")


def draw_curves(records: Sequence[dict[str, float]], samples_per_step: int | None) -> "Figure":
    """Bits per sample in training and held out, from the records of `metrics.jsonl`, against the samples trained on.

    If `samples_per_step` is None, the x-axis counts steps.
    """
    figure, (axes,) = _figure(3.9, 2.5, 1)
    last = max((one["step"] for one in records), default=0)
    scale, unit = 1.0, "steps"
    if samples_per_step:
        scale, unit = float(samples_per_step), "samples trained on"
        if last * scale > 1e6:
            scale, unit = scale / 1e6, f"million {unit}"
    begun = 0.03 * last  # the first fall would make the rest look flat
    for (key, name), colour, style in zip(_BITS.items(), (_FAINT, _BLUE), ("-", "-o"), strict=True):
        points = [(one["step"] * scale, one[key]) for one in records if key in one]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=name, linewidth=1.6, markersize=4)
    settled = [value for one in records for key, value in one.items() if key in _BITS and one["step"] > begun]
    if len(settled) > 8:
        margin = 0.05 * (max(settled) - min(settled)) + 0.01
        axes.set_ylim(min(settled) - margin, max(settled) + margin)
    axes.set(xlabel=unit, ylabel="bits per sample")
    axes.grid(visible=True, axis="y", color=_FAINT, alpha=0.3, linewidth=0.6)
    axes.legend(frameon=False, labelcolor=_INK)
    return figure


def draw_cone(dilations: Sequence[int], kernel_size: int, sample_rate: int) -> "Figure":
    """The inputs of each layer that lead to the newest output (WaveNet paper, figure 3).

    The newest samples are drawn one by one. If the receptive field is longer, a picture above shows all of it, darker
    where the network sees more of the samples.
    """
    reached, layers = _reached(dilations, kernel_size), len(dilations)
    field = len(reached[-1])
    height = 0.9 + 0.11 * layers
    if field <= _DOTS:
        figure, (axes,) = _figure(5.6, max(1.8, height), 1)
        draw_cone_on(axes, dilations, kernel_size)
        return figure
    figure, (above, below) = _figure(5.6, 2 * max(1.8, height), 2)
    columns = min(field, _COLUMNS)
    shares = torch.zeros(layers + 1, columns)
    for row, seen in enumerate(reversed(reached)):
        bins = torch.arange(len(seen)) * columns // field
        within = torch.bincount(bins, minlength=columns).clamp(min=1)
        shares[row] = torch.bincount(bins, weights=seen.double(), minlength=columns) / within
    extent = (-field / sample_rate * 1000, 0, -0.5, layers + 0.5)
    image = _shaded(shares.flip(1))
    above.imshow(image, origin="lower", aspect="auto", extent=extent, interpolation="none")
    above.set(
        xlabel="milliseconds before the newest sample", ylabel="layer", title="all of it: darker where more is seen"
    )
    above.xaxis.set_major_formatter(_before)
    above.set_yticks(_rows(layers))
    draw_cone_on(below, dilations, kernel_size)
    below.set_title(f"its last {_DOTS} samples, one by one")
    return figure


def _shaded(shares: Tensor) -> Any:
    """Shares from 0 to 1 as the opacity of blue, `(rows, columns)` -> `(rows, columns, 4)`."""
    red, green, blue = (int(_BLUE[place : place + 2], 16) / 255 for place in (1, 3, 5))
    image = torch.tensor([red, green, blue, 0.0]).expand(*shares.shape, 4).clone()
    image[..., 3] = shares
    return image.numpy()


def draw_cone_on(axes: "Axes", dilations: Sequence[int], kernel_size: int) -> None:
    """Draw the cone's newest samples, up to 64: inputs at the bottom, and the taps that lead to the output.

    The newest sample is at the right. Inputs from which no path leads are hollow.
    """
    reached, layers = _reached(dilations, kernel_size), len(dilations)
    samples = min(len(reached[-1]), _DOTS)
    for below, dilation in enumerate(reversed(dilations)):
        newer = torch.nonzero(reached[below][:samples])
        older = newer + torch.arange(kernel_size) * dilation
        ends = torch.stack([older, newer.expand_as(older)], dim=2)[older < samples].double()
        gaps = torch.full((len(ends), 1), torch.nan)  # they separate the lines
        rows = torch.tensor([layers - below - 1.0, layers - below, torch.nan]).expand(len(ends), 3)
        lines = -torch.cat([ends, gaps], dim=1).flatten()
        axes.plot(lines.numpy(), rows.flatten().numpy(), color=_BLUE, linewidth=0.7, alpha=0.7, zorder=1)
    for depth, seen in enumerate(reached):
        known = torch.zeros(samples, dtype=torch.bool)
        known[: min(samples, len(seen))] = seen[:samples]
        unseen: Any = {"color": _FAINT, "markersize": 0.6}
        if depth == layers:
            unseen = {"color": _ORANGE, "markerfacecolor": "none"}
        for places, look in ((~known, unseen), (known, {"color": _ORANGE if depth == 0 else _BLUE})):
            lags = -torch.nonzero(places)[:, 0]
            rows = torch.full_like(lags, layers - depth)
            axes.plot(lags.numpy(), rows.numpy(), "o", **{"markersize": 3.2, "mew": 0.9, "zorder": 2, **look})
    axes.set(xlabel="samples before the newest", ylabel="layer", xlim=(-samples + 0.4, 0.6), ylim=(-0.6, layers + 0.6))
    axes.set_yticks(_rows(layers))
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter(_before)


def _reached(dilations: Sequence[int], kernel_size: int) -> list[Tensor]:
    """Which samples lead to the newest output: first in the output itself, then in each layer's inputs; lag 0 first."""
    return [torch.ones(1, dtype=torch.bool), *(counts > 0 for counts in count_paths(dilations, kernel_size))]


def _rows(layers: int) -> range:
    return range(0, layers + 1, max(1, -(-layers // 10)))


def _before(value: float, place: float = 0) -> str:
    return f"{abs(value):g}"


def to_svg(figure: "Figure", label: str, name: str) -> str:
    """The figure as an `<svg>` element for a page, with a label for those who cannot see it.

    `name` prefixes the ids in the markup and must be unique on the page.
    """
    written = io.StringIO()
    _write(figure, written, "svg")
    markup = written.getvalue()
    markup = markup[markup.index("<svg") :].replace(_INK, "currentColor")
    markup = re.sub(r"<metadata>.*?</metadata>", "", markup, flags=re.DOTALL)
    markup = re.sub(r'<g id="[^"]*"', "<g", markup)
    markup = re.sub(r'( id="|"#|url\(#)', rf"\g<1>{name}-", markup)
    return markup.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def picture_kind(path: Path) -> str:
    """The format that the suffix names, "svg", "png" or "pdf"; `ValueError` for another."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in PICTURES:
        raise ValueError(f"{path}: pictures are written as {', '.join('.' + name for name in PICTURES)}")
    return kind


def save(figure: "Figure", path: Path) -> None:
    """Write the figure, black on white, in the format of the suffix (.svg, .png, .pdf); `ValueError` for another."""
    kind = picture_kind(path)
    figure.set_facecolor("white")
    encoded = io.BytesIO()
    _write(figure, encoded, kind)
    write_atomically(path, encoded.getvalue())


def _write(figure: "Figure", into: Any, kind: str) -> None:
    import matplotlib

    metadata = {"Date": None} if kind == "svg" else None
    with matplotlib.rc_context(_STYLE):
        figure.savefig(into, format=kind, metadata=metadata, dpi=150)
