"""Computes what training minimises, eagerly or compiled: the bits of the scored samples of a batch."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.data import Batch, clip_tracks, timed_labels
from wavenet.network import Conditioning, WaveNet, check_labels, timed_frames


class Objective(nn.Module):
    """The loss of a `WaveNet` on windows of a `WindowSampler`, which give the same `margin`."""

    def __init__(self, model: WaveNet, margin: int, autocast: bool) -> None:
        super().__init__()
        self.model, self.margin, self.autocast = model, margin, autocast

    def forward(
        self,
        samples: Tensor,
        scored: Tensor,
        times: Tensor,
        lengths: Tensor,
        labels: Tensor | None,
        inputs: Tensor | None = None,
        timed: Tensor | None = None,
        tracks: Tensor | None = None,
    ) -> Tensor:
        """The sum of the bits of the scored samples, `()`.

        Samples `(B, margin + context + window + margin)`, scored `(B, window)`, and `(B,)` each: the times at which the
        contexts begin, the lengths of the clips, and the rows of their labels. The network and its linear
        prediction from the past are given `inputs`, of the shape of the samples, in place of the samples; the features
        and what is to be predicted are of the samples. With `timed` `(B, 5, F)`, what the frames of the samples know of
        their clips' labels, the features are the acoustic model's. They are taught by the recordings' alone. `tracks`
        `(B, tracks, F)` are those of the same frames.
        """
        model, margin = self.model, self.margin
        conditioning, taught = Conditioning(labels), torch.zeros((), device=samples.device)
        if model.log_mel is not None:
            with torch.no_grad():
                features, first = model.log_mel.around(samples, margin, times, lengths)
                own = model.log_mel.own_frames(range(first, first + features.shape[2]), times, lengths)[:, None]
            if model.acoustic is not None and timed is not None:
                said = model.acoustic(timed, model.vector(conditioning))
                taught = model.acoustic.loss(said, features).sum() * model.alignment.hop
                features = said.detach().where(own, features)
            if tracks is not None:
                rows = model.scale_tracks(tracks).where(own, model.log_mel.config.silence)
                features = torch.cat([features, rows], dim=1)
            conditioning = Conditioning(labels, features, model.log_mel.config.silence, first)
        inside = slice(margin, samples.shape[1] - margin)
        symbols = model.encode_unchecked(samples)[:, inside]
        given = symbols if inputs is None else model.encode_unchecked(inputs)[:, inside]
        with torch.autocast(samples.device.type, torch.bfloat16, enabled=self.autocast):
            parameters = model(given[:, :-1], conditioning)[:, :, -scored.shape[1] :]
        log_probs = model.distribution.log_prob(parameters, symbols[:, -scored.shape[1] :])
        bits = -(log_probs * scored).sum() / math.log(2)
        return bits + (taught - taught.detach())  # which adds nothing but a gradient


def objective_inputs(model: WaveNet, batch: Batch, margin: int) -> list[Tensor | None]:
    """What `Objective` takes of a batch, in its order, on the CPU."""
    config, log_mel, hop = model.config, model.log_mel, model.alignment.hop
    told = [{kind: clip.labels[kind] for kind in config.known_labels} for clip in batch.clips]
    labels = check_labels(None, told, len(told), config.known_labels, config.speaker_channels)
    lengths = torch.tensor([clip.samples for clip in batch.clips])
    timed: list[Tensor] = []
    tracks: list[Tensor] = []
    if log_mel is not None and (config.timed_labels is not None or config.tracks):
        frames = log_mel.frames_around(batch.samples.shape[1], margin)
        for clip, time in zip(batch.clips, batch.times.tolist(), strict=True):
            first = frames.start + time // hop
            if config.timed_labels is not None:
                said, names = timed_labels(clip, config.timed_labels.whole_clip), config.timed_labels.names
                rate = config.sample_rate / hop
                timed.append(timed_frames(said, names, first=first, frames=len(frames), frames_per_second=rate))
            if (own := clip_tracks(clip, config)) is not None:
                index = torch.arange(first, first + len(frames))
                tracks.append(own[:, index.clamp(0, own.shape[1] - 1)])  # beyond the clip those of its ends
    by_frame = [torch.stack(rows) if rows else None for rows in (timed, tracks)]
    return [batch.samples, batch.scored, batch.times, lengths, labels, batch.inputs, *by_frame]


def compile_objective(objective: nn.Module, model: WaveNet, note: Callable[[str], None]) -> Callable[..., Tensor]:
    """An `objective` of this model, compiled at the first call; if that fails, eager, and `note` is told."""
    if model.predictor is not None:
        _run_eagerly(type(model.predictor))
    compiled: Callable[..., Tensor] = torch.compile(objective, dynamic=False)
    chosen: Callable[..., Tensor] | None = None

    def loss(*batch: Any) -> Tensor:
        nonlocal chosen
        if chosen is None:
            chosen = compiled
            try:  # the first backward pass compiles too; `grad` does it without talking to other ranks
                parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
                torch.autograd.grad(compiled(*batch), parameters, allow_unused=True)
            except RuntimeError as error:
                note(f"torch.compile does not work here ({str(error).splitlines()[0]}); training eagerly")
                chosen = objective
        return chosen(*batch)

    return loss


@functools.cache
def _run_eagerly(kind: type[nn.Module]) -> None:
    """Keep modules of this class out of compiled graphs, which the steps of linear prediction's recursion would fill.

    (This is not done where the class is defined, because it imports torch's compiler, which takes a second.)
    """
    disable: Callable[[Any], Any] = torch.compiler.disable
    kind.forward = disable(kind.forward)
