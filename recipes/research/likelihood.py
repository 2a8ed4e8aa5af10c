"""WaveNet as a likelihood model: how probable recordings are, and where in one the surprise lies.

    python recipes/research/likelihood.py [FILE ...] [--picture FILE]

Without files: the beginning of each held-out clip of the embedded speech against the same, altered. The picture is of
the first file, or else of one such clip, demo-thanks.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from wavenet import Categorical, WaveNet
from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.options import check_output
from wavenet.data import find_clips, read_audio, resample
from wavenet.evaluation import linear_prediction_bits, score_symbols
from wavenet.reporting import draw_spectrogram_on, picture_kind, save

SAMPLES = Path(__file__).parents[2] / "samples"
GOODBYE = SAMPLES / "speech" / "en" / "demo-thanks.flac"
SECONDS = 3
"""Of each held-out clip that much is scored, from its beginning."""


def alterations(waveform: Tensor, rate: int) -> dict[str, Tensor]:
    """A clip `(T,)` and what was made of it; the random ones are the same at each call."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(waveform.shape, generator=generator) * waveform.square().mean().sqrt() * 10 ** (-30 / 20)
    pieces = torch.split(waveform, rate // 50)
    shuffled = [pieces[index] for index in torch.randperm(len(pieces), generator=generator)]
    return {
        "as recorded": waveform,
        "6 dB quieter": waveform / 2,
        "upside down": -waveform,
        "reversed in time": waveform.flip(0),
        "20 ms pieces shuffled": torch.cat(shuffled),
        "at double speed": resample(waveform, 2 * rate, rate),
        "with noise 30 dB below the speech": waveform + noise,
    }


def surprise(model: WaveNet, waveform: Tensor) -> Tensor:
    """Bits of each sample of a clip `(T,)` given those before it: `(2, T)`, the model's and linear prediction's."""
    symbols = model.encode(waveform[None])
    bits = -score_symbols(model, symbols, chunk=4000).log_probs[0] / math.log(2)
    return torch.stack([bits.double(), linear_prediction_bits(symbols[0], model.distribution.classes)])


def load(path: Path, rate: int) -> Tensor:
    waveform, source_rate = read_audio(path)
    try:
        return resample(waveform, source_rate, rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def compare_alterations(model: WaveNet, clips: Sequence[Tensor]) -> dict[str, Tensor]:
    """Print a line for each alteration, the means of the clips' means, which it gives as `(clips, 2)`."""
    altered = [alterations(clip, model.config.sample_rate) for clip in clips]
    found = {name: torch.stack([surprise(model, one[name]).mean(dim=1) for one in altered]) for name in altered[0]}
    recorded = found["as recorded"]
    print(f"{'bits per sample':34}{'WaveNet':>9}{'less probable':>15}{'linear prediction':>19}{'less probable':>15}")
    for name, bits in found.items():
        worse = [f"{count} of {len(clips)}" for count in (bits > recorded).sum(dim=0).tolist()]
        worse = worse if bits is not recorded else ["", ""]
        of_model, of_prediction = bits.mean(dim=0).tolist()
        print(f"{name:34}{of_model:9.3f}{worse[0]:>15}{of_prediction:19.3f}{worse[1]:>15}")
    return found


def compare_files(model: WaveNet, recordings: Sequence[tuple[Path, Tensor]]) -> list[Tensor]:
    """Print each recording's bits per sample, and which is the most probable, for its length; gives their surprise."""
    found = []
    for path, recording in recordings:
        found.append(surprise(model, recording))
        print(f"{path}: {float(found[-1][0].mean()):.3f} bits per sample", flush=True)
    if len(found) > 1:
        likeliest = min(range(len(found)), key=lambda index: float(found[index][0].mean()))
        print(f"the more probable: {recordings[likeliest][0]}")
    return found


def draw(waveform: Tensor, bits: Tensor, rate: int, path: Path, seconds: float = 0.02) -> None:
    """The clip's spectrogram above its `surprise`, means over `seconds`."""
    from matplotlib.figure import Figure

    width = min(round(seconds * rate), len(waveform))
    step = max(1, width // 40)
    smooth = functional.avg_pool1d(bits, width, step)
    times = (torch.arange(len(smooth[0])) * step + width / 2) / rate
    figure = Figure(figsize=(10, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    draw_spectrogram_on(above, waveform, rate)
    below.plot(times, smooth[1], color="#8a8f98", linewidth=1, label="linear prediction")
    below.plot(times, smooth[0], color="#c8641b", linewidth=1.4, label="WaveNet")
    below.fill_between(times, smooth[0], color="#c8641b", alpha=0.2, linewidth=0)
    below.set(xlabel="seconds", ylabel="bits per sample", ylim=(0, 8))
    below.grid(visible=True, axis="y", alpha=0.3)
    below.legend(frameon=False, ncols=2, loc="upper left")
    save(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Score recordings by a WaveNet's likelihood.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="recordings to score, and to compare")
    parser.add_argument("--model", type=Path, default=SAMPLES / "models" / "prompts.safetensors")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw where the surprise lies in the first FILE, or in demo-thanks"
    )
    parser.add_argument("--force", action="store_true", help="replace the picture that is there")
    parser.add_argument("--limit", type=int, metavar="N", help="without files: of the held-out clips only the first N")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.files:
        parser.error("--limit counts held-out clips; leave it out where recordings are given")
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit is {options.limit}; expected 1 or more clips")
    if options.picture is not None:
        picture_kind(options.picture)
        check_output(options.picture, options.force)
    model = WaveNet.from_pretrained(options.model)
    if not isinstance(model.distribution, Categorical) or model.conditioner is not None:
        told = " that is told of speakers or features" if model.conditioner is not None else ""
        parser.error(
            f"{options.model} is a model of kind {model.distribution.kind}{told}; expected a categorical one that is "
            "told nothing, such as prompts.safetensors"
        )
    rate = model.config.sample_rate
    recordings = [(path, load(path, rate)) for path in options.files]
    scored = compare_files(model, recordings)
    if options.picture is not None:
        drawn = recordings[0][1] if recordings else load(GOODBYE, rate)
        draw(drawn, scored[0] if scored else surprise(model, drawn), rate, options.picture)
    if not recordings:
        clips = find_clips(SAMPLES / "speech", "folder", held_out=0.1, speakers=True)
        held_out = [clip.path for clip in clips if clip.split == "test"][: options.limit]
        compare_alterations(model, [load(path, rate)[: SECONDS * rate] for path in held_out])


if __name__ == "__main__":
    with errors_in_one_line("likelihood.py"):
        main()
