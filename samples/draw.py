"""Draw spectrograms of audio files, one above the other, with their levels."""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.options import check_output
from wavenet.data import read_audio
from wavenet.reporting import draw_spectrogram_on, picture_kind, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="picture to write: .png, .svg or .pdf")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio")
    parser.add_argument("--force", action="store_true", help="replace the picture that is there")
    options = parser.parse_args()
    picture_kind(options.output)
    check_output(options.output, options.force)
    figure = Figure(figsize=(7, 2.2 * len(options.files)), layout="constrained")
    rows = figure.subplots(len(options.files), 1, squeeze=False)
    for (axes,), path in zip(rows, options.files, strict=True):
        waveform, rate = read_audio(path)
        draw_spectrogram_on(axes, waveform, rate)
        level = 10 * torch.log10(waveform.square().mean())
        share = waveform.abs().max()
        axes.set_title(f"{path.stem}: {level:.0f} dB RMS, peak {share:.2f}", fontsize=9)
    rows[-1][0].set_xlabel("seconds")
    save(figure, options.output)


if __name__ == "__main__":
    with errors_in_one_line("draw.py"):
        main()
