"""What pre-emphasis does to the hiss of µ-law: noise by band and PESQ of the round trip, for several coefficients.

    python recipes/prompts/hiss.py data/prompts --limit 40

Needs `pip install 'wavenet-toolkit[scores]'`. No network runs: this is the ceiling of any model with these classes.
"""

import argparse

import torch
from torch import Tensor

from wavenet import WaveNet, WaveNetConfig
from wavenet.data import PreparedDataset, pick_clips
from wavenet.evaluation import compare, interval
from wavenet.network import LogMel, LogMelConfig

COEFFICIENTS = (0.0, 0.5, 0.7, 0.85, 0.95)
BANDS = ((0, 1000), (1000, 4000), (4000, 8000))


def decibels(noise: Tensor, sample_rate: int, low: int, high: int) -> float:
    """Power of a band relative to full scale, in dB."""
    spectrum = torch.fft.rfft(noise.double()).abs().square() * 2 / len(noise) ** 2
    frequencies = torch.fft.rfftfreq(len(noise), 1 / sample_rate)
    return float(10 * torch.log10(spectrum[(frequencies >= low) & (frequencies < high)].sum() + 1e-20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--limit", type=int, default=40)
    arguments = parser.parse_args()
    dataset = PreparedDataset(arguments.dataset)
    clips = pick_clips(dataset.split("test"), arguments.limit)
    log_mel = LogMel(LogMelConfig(), dataset.sample_rate)
    print(
        "coefficient   noise in dB of full scale, " + ", ".join(f"{low}-{high} Hz" for low, high in BANDS) + "   PESQ"
    )
    for coefficient in COEFFICIENTS:
        model = WaveNet(WaveNetConfig(dilations=(1,), sample_rate=dataset.sample_rate, pre_emphasis=coefficient))
        noise: list[list[float]] = [[] for _ in BANDS]
        quality = []
        for clip in clips:
            original = clip.read()
            copy = model.decode(model.encode(original[None]))[0]
            for values, (low, high) in zip(noise, BANDS, strict=True):
                values.append(decibels(copy - original, dataset.sample_rate, low, high))
            quality.append(compare(original, copy, log_mel, dataset.sample_rate).pesq)
        bands = "".join(f"{interval(values).mean:12.1f}" for values in noise)
        score = interval(quality)
        print(f"{coefficient:11.2f}   {bands}   {score.mean:.3f} ± {score.half_width:.3f}", flush=True)


if __name__ == "__main__":
    main()
