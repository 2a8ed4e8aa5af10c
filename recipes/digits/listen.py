"""Does a model say the digit it is told, in the voice it is told? A recogniser that has heard only recordings judges.

    python recipes/digits/listen.py data/digits MODEL [--audio FOLDER]

The recogniser is a small convolutional network on log-mel features. It is trained on the dataset's training takes, and
scored on the held-out ones first. Then it hears what the model says: each digit in each voice, five times, as long as
the voice's own takes last on average.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wavenet import LogMel, LogMelConfig, PreparedDataset, TimedLabel, WaveNet, generate, write_audio
from wavenet.cli.errors import errors_in_one_line

FRAMES = 96
LOG_MEL = LogMelConfig(bins=40, hop=80, window=256)


class Recogniser(nn.Module):
    """Log-mel features `(B, bins, FRAMES)` to the scores of digits and of speakers."""

    def __init__(self, digits: int, speakers: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 24), (24, 48), (48, 96)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.layers = nn.Sequential(*layers)
        self.digit, self.speaker = (nn.Linear(96 * (LOG_MEL.bins // 8), count) for count in (digits, speakers))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heard = self.layers(x[:, None]).amax(dim=3).flatten(1)
        return self.digit(heard), self.speaker(heard)


def frames_of(waveforms: Sequence[Tensor], rate: int) -> Tensor:
    """Log-mel features `(B, bins, FRAMES)`, each clip in the middle and with a mean of zero over what it says."""
    log_mel, rows = LogMel(LOG_MEL, rate), []
    for waveform in waveforms:
        features = log_mel(waveform[None])[0, :, :FRAMES]
        features = features.clamp(min=float(features.max()) - 12)  # 52 dB: what lies below is the recording's noise
        left = (FRAMES - features.shape[1]) // 2
        right = FRAMES - features.shape[1] - left
        rows.append(
            nn.functional.pad(features - features.mean(), (left, right), value=float(features.min() - features.mean()))
        )
    return torch.stack(rows) / 4


def train(frames: Tensor, digits: Tensor, speakers: Tensor, epochs: int) -> Recogniser:
    torch.manual_seed(0)
    model = Recogniser(int(digits.max()) + 1, int(speakers.max()) + 1)
    batches = [row for _ in range(epochs) for row in torch.randperm(len(frames)).split(64)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=len(batches) + 1)
    for rows in batches:
        shift = int(torch.randint(-8, 9, ()))
        x = frames[rows].roll(shift, dims=2) + 0.1 * torch.randn(len(rows), LOG_MEL.bins, FRAMES)
        loss = sum(
            cross_entropy(scores, truth[rows], label_smoothing=0.1)
            for scores, truth in zip(model(x), (digits, speakers), strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def right(model: Recogniser, frames: Tensor, digits: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
    heard = model(frames)
    return heard[0].argmax(dim=1) == digits, heard[1].argmax(dim=1) == speakers


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description="Let a recogniser hear what a model of digits says.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="write what the model says, to hear")
    parser.add_argument("--epochs", type=int, default=20, help="of training the recogniser")
    parser.add_argument("--takes", type=int, default=5, help="of each digit in each voice")
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args(arguments)
    dataset, model = PreparedDataset(options.dataset), WaveNet.from_pretrained(options.model)
    _check(dataset, model, options.takes, options.epochs)
    names, voices = sorted({clip.labels["digit"] for clip in dataset.clips}), list(model.config.speakers)

    def load(split: str) -> tuple[Tensor, Tensor, Tensor]:
        clips = dataset.split(split)
        truth = [[names.index(clip.labels["digit"]), voices.index(clip.labels["speaker"])] for clip in clips]
        return frames_of([clip.read() for clip in clips], dataset.sample_rate), *torch.tensor(truth).T

    recogniser = train(*load("train"), options.epochs)
    scores = {}
    shares = [float(found.double().mean()) for found in right(recogniser, *load("test"))]
    scores["real digits"], scores["real voices"] = shares
    print(f"held-out takes: {shares[0]:.1%} of the digits right, {shares[1]:.1%} of the voices", flush=True)

    seconds = defaultdict(list)
    for clip in dataset.split("train"):
        seconds[clip.labels["digit"], clip.labels["speaker"]].append(clip.samples / clip.sample_rate)
    told = [(name, voice) for name in names for voice in voices]
    said, by_voice = [], defaultdict(list)
    for name, voice in told:
        label = TimedLabel(0.0, statistics.fmean(seconds[name, voice]), name)
        audio = generate(
            model,
            speaker=voice,
            timed_labels=[[label]] * options.takes,
            temperature=options.temperature,
        )
        said += list(audio)
        for take, row in enumerate(audio if options.audio is not None else ()):
            options.audio.mkdir(exist_ok=True)
            write_audio(options.audio / f"{name}_{voice}_{take}.wav", row, dataset.sample_rate)
    truth = [(names.index(name), voices.index(voice)) for name, voice in told for _ in range(options.takes)]
    digits, speakers = right(recogniser, frames_of(said, dataset.sample_rate), *torch.tensor(truth).T)
    for (_, voice), start in zip(told, range(0, len(said), options.takes), strict=True):
        by_voice[voice].append((digits[start : start + options.takes], speakers[start : start + options.takes]))
    for voice, found in by_voice.items():
        shares = [float(torch.cat(part).double().mean()) for part in zip(*found, strict=True)]
        print(f"{voice:12} {shares[0]:.1%} of the digits right, {shares[1]:.1%} of the voices")
    scores["digits"], scores["voices"] = float(digits.double().mean()), float(speakers.double().mean())
    print(f"all {len(said):<8} {scores['digits']:.1%} of the digits right, {scores['voices']:.1%} of the voices")
    return scores


def _check(dataset: PreparedDataset, model: WaveNet, takes: int, epochs: int) -> None:
    if min(takes, epochs) < 1:
        raise ValueError(f"--takes is {takes} and --epochs {epochs}; expected 1 or more")
    said = () if model.config.timed_labels is None else model.config.timed_labels.names
    for clip in dataset.clips:
        if clip.labels.get("digit") not in said or clip.speaker not in model.config.speakers:
            raise ValueError(
                f"{dataset.path}: {clip.name} has the labels {dict(clip.labels)}; expected a digit among "
                f"{', '.join(said) or 'none'} and a speaker among {', '.join(model.config.speakers) or 'none'}, "
                "which the model knows"
            )


if __name__ == "__main__":
    with errors_in_one_line("listen.py"):
        main()
