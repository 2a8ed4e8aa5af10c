"""Your own residual block, trained beside the package's at equal cost, saved, read back and heard.

    python recipes/research/layer.py [--steps N] [--seed N] [--audio FOLDER] [--seconds S]

The block normalises its input over the channels (root mean square, Zhang & Sennrich 2019), as transformers do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from wavenet import ResidualBlock, TrainConfig, Trainer, WaveNet, WaveNetConfig, generate, multiply_adds
from wavenet.cli.errors import errors_in_one_line
from wavenet.data import read_audio, tensor_clips, write_audio

SPEECH = Path(__file__).parents[2] / "samples" / "speech" / "en"
CHANNELS = {"residual_channels": 32, "gate_channels": 64, "skip_channels": 64, "head_channels": 64}


class NormedBlock(nn.Module):
    """The gated block of the paper behind a normalisation: `(B, context + T, residual)` -> the same two outputs."""

    def __init__(self, config: WaveNetConfig, dilation: int, *, last: bool) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.residual_channels)
        self.inner = ResidualBlock(config, dilation, last=last)
        self.context = self.inner.context

    def forward(self, x: Tensor, biases: Tensor | None = None) -> tuple[Tensor, Tensor]:
        normed = self.norm(x)
        after, gated = self.inner(normed, biases)
        return (x - normed)[:, self.context :] + after, gated


BLOCKS = {"the package's": ResidualBlock, "normalised": NormedBlock}


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Compare your own residual block with the package's.")
    parser.add_argument("--steps", type=int, default=300, help="of training, for each block")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the windows")
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="write audio from each, to hear")
    parser.add_argument("--seconds", type=float, default=1.0, help="of that audio")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= 3600:
        raise ValueError(f"--seconds is {options.seconds}; expected over 0, up to 3600")
    training = TrainConfig(steps=options.steps, seed=options.seed, batch_size=1, window=1500, precision="float32")
    waveforms = [read_audio(path)[0] for path in sorted(SPEECH.glob("*.flac"))[:24]]
    clips = tensor_clips(waveforms, sample_rate=16000)
    bits: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for name, block in BLOCKS.items():
            torch.manual_seed(options.seed)
            model = WaveNet(WaveNetConfig(cycles=1, layers_per_cycle=10, **CHANNELS), block=block)
            trainer = Trainer(model, clips[4:], clips[:4], training)
            bits[name] = trainer.run()
            trainer.average.save_pretrained(path)
            loaded = WaveNet.from_pretrained(path, block=block)
            print(
                f"{name:16}{bits[name]:.3f} held-out bits per sample, {multiply_adds(loaded):,} multiply-adds",
                flush=True,
            )
            if options.audio is not None:
                options.audio.mkdir(exist_ok=True)
                audio = generate(loaded, max(1, round(options.seconds * 16000)), seed=options.seed, engine="stepwise")[
                    0
                ]
                write_audio(options.audio / f"{name.split()[-1]}.wav", audio, 16000)
    return bits


if __name__ == "__main__":
    with errors_in_one_line("layer.py"):
        main()
