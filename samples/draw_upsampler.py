"""Draw what upsamplers make of one frame's impulse and of a ramp: fresh ones of both kinds, and a trained model's.

python samples/draw_upsampler.py samples/audio/upsampler.png digits
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from wavenet import WaveNet
from wavenet.cli.errors import errors_in_one_line
from wavenet.cli.options import check_output
from wavenet.network import UPSAMPLERS
from wavenet.reporting import picture_kind, save


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Draw what upsamplers make of an impulse and of a constant.")
    parser.add_argument("output", type=Path)
    parser.add_argument("model", type=Path, help="a model with features")
    parser.add_argument("--force", action="store_true", help="replace the picture that is there")
    options = parser.parse_args()
    picture_kind(options.output)
    check_output(options.output, options.force)
    model = WaveNet.from_pretrained(options.model)
    if model.conditioner is None or model.config.features is None:
        raise ValueError(f"{options.model} has no features to upsample; expected a vocoder")
    if model.config.conditioning.projection == "frames":
        raise ValueError(f"{options.model} upsamples biases; expected a vocoder whose projection is of samples")
    scales = model.config.conditioning.scales
    hop, channels = model.alignment.hop, model.config.conditioning.channels
    naive = torch.nn.ConvTranspose1d(1, 1, 2 * hop, hop, padding=hop // 2, bias=False)
    torch.manual_seed(0)
    torch.nn.init.normal_(naive.weight, std=0.5)
    constant, impulse = torch.ones(1, channels, 13), torch.zeros(1, channels, 13)
    impulse[:, :, 6] = 1.0
    kinds = {f"{kind}, fresh": kind_of(channels, scales) for kind, kind_of in UPSAMPLERS.items()}
    rows = {**kinds, "transposed, trained": model.conditioner.upsampler}
    figure = Figure(figsize=(11, 2 * len(rows) + 2), layout="constrained")
    axes = figure.subplots(len(rows) + 1, 2, squeeze=False, sharex=True)
    for (left, right), (name, upsampler) in zip(axes, rows.items(), strict=False):
        for axis, frames in ((left, impulse), (right, constant)):
            points = upsampler(frames)[0]
            start = (13 - 1) * hop + 1 - points.shape[1]
            axis.plot(range(start // 2, start // 2 + points.shape[1]), points[:8].T, linewidth=0.8)
            axis.set_xticks(range(0, 12 * hop + 1, 2 * hop))
            axis.grid(alpha=0.3)
        left.set_title(f"{name}: impulse in frame 6", fontsize=9)
        right.set_title(f"{name}: the same in all frames", fontsize=9)
    for axis, frames in ((axes[-1][0], impulse[:, :1]), (axes[-1][1], constant[:, :1])):
        axis.plot(naive(frames)[0, 0], linewidth=0.8)
        axis.grid(alpha=0.3)
        axis.set_title("for comparison, a transposed convolution with random weights", fontsize=9)
        axis.set_xlabel("sample")
    save(figure, options.output)


if __name__ == "__main__":
    with errors_in_one_line("draw_upsampler.py"):
        main()
