"""Draw spectrograms of audio files, one above the other, with the level over time.

python samples/draw.py OUTPUT.png FILE.wav ...
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from torchaudio import transforms

from wavenet.audio import read_audio


def main() -> None:
    output, *files = map(Path, sys.argv[1:])
    figure, rows = pyplot.subplots(len(files), 1, figsize=(10, 2.2 * len(files)), squeeze=False, layout="constrained")
    for (axes,), path in zip(rows, files, strict=True):
        waveform, rate = read_audio(path)
        power = transforms.Spectrogram(n_fft=512, hop_length=64)(waveform)
        decibels = transforms.AmplitudeToDB(top_db=70)(power)
        extent = (0, len(waveform) / rate, 0, rate / 2000)
        axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, cmap="magma")
        level = 10 * torch.log10(waveform.square().mean())
        share = waveform.abs().max()
        axes.set_title(f"{path.stem}: {level:.0f} dB RMS, peak {share:.2f}", fontsize=9)
        axes.set_ylabel("kHz")
    rows[-1][0].set_xlabel("seconds")
    figure.savefig(output, dpi=100)


if __name__ == "__main__":
    main()
