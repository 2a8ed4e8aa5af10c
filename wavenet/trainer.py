"""One run of training: its model, average, optimizers and progress; a step, and all of its state."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wavenet.audio import from_int16
from wavenet.conditioning import Conditioning
from wavenet.config import WaveNetConfig
from wavenet.dataset import Batch, PreparedClip, PreparedDataset, WindowSampler
from wavenet.evaluation import Score, about, condition_on, evaluate, speaker_of
from wavenet.model import WaveNet
from wavenet.optimizer import optimizers_for, rate_share
from wavenet.recipe import Recipe, TrainConfig

__all__ = ["Observer", "Progress", "Trainer"]


class Observer(Protocol):
    """Who watches a run. All of it is optional reading; nothing here changes the run."""

    def note(self, message: str) -> None:
        """Something worth one line, said once."""

    def stepped(self, step: int, bits: float) -> None:
        """A step is done: its number, from 1, and its training loss in bits per sample."""

    def logged(self, record: dict[str, float]) -> None:
        """A line went to `metrics.jsonl`."""

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        """Held-out bits per sample of the averaged model at this step; `example` is a held-out clip's conditioning."""


@dataclass
class Progress:
    """Where a run stands. `bits_sum` over `bits_count` is the training loss since the last log line."""

    step: int = 0
    bits_sum: float = 0.0
    bits_count: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0


class Trainer:
    """Model, average, optimizers and progress of one run; `step` does one step, `state` is all of it."""

    def __init__(self, recipe: Recipe, observer: Observer) -> None:
        self.config, self.observer = recipe.train, observer
        self.dataset = PreparedDataset(recipe.dataset)
        clips = self.dataset.split("train", recipe.train.voices)
        self.recipe = recipe = replace(recipe, model=_with_speakers(recipe.model, clips))
        if self.dataset.sample_rate != recipe.model.sample_rate:
            raise ValueError(
                f"{recipe.dataset} has {self.dataset.sample_rate} Hz, the recipe's model.sample_rate is "
                f"{recipe.model.sample_rate}; prepare the dataset with --sample-rate {recipe.model.sample_rate}"
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.model = WaveNet(recipe.model)
        self.model.to(self.device)
        self.average = copy.deepcopy(self.model)
        self.optimizers = optimizers_for(self.model, self.config)
        self.sampler = WindowSampler(
            dataset=self.dataset,
            clips=clips,
            context=-(-self.model.context // self.model.grid) * self.model.grid,
            window=self.config.window,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            margin=self.model.margin,
            grid=self.model.grid,
        )
        held_out = self.dataset.split(self.dataset.held_out_split, recipe.train.voices)
        if recipe.model.speakers:
            held_out = tuple(clip for clip in held_out if clip.speaker in recipe.model.speakers)
            if not held_out:
                raise ValueError(f"{recipe.dataset}: no held-out clip is by a speaker that is trained on")
        seconds = self.config.evaluation_seconds
        self.held_out = about(held_out, int(seconds * self.dataset.sample_rate))
        self.progress = Progress()
        self.autocast = _wants_bfloat16(self.config, self.device)
        self.loss: Callable[..., Tensor] = self._eager_loss
        self._compile()

    def _compile(self) -> None:
        """Compile the loss where asked to, and fall back to eager, saying so, where that fails."""
        if self.config.compile == "off" or (self.config.compile == "auto" and not self.autocast):
            return
        compiled = torch.compile(self._eager_loss, dynamic=False)

        def first_call(*batch: Any) -> Tensor:
            try:
                loss: Tensor = compiled(*batch)
                self.loss = compiled
            except RuntimeError as error:
                self.observer.note(f"torch.compile does not work here ({str(error).splitlines()[0]}); training eagerly")
                self.loss = self._eager_loss
                loss = self._eager_loss(*batch)
            return loss

        self.loss = first_call

    def batch_loss(self, batch: Batch) -> Tensor:
        """Mean bits per scored sample of a batch, on the training device."""
        names = self.recipe.model.speakers
        speakers = torch.tensor([names.index(clip.speaker or "") for clip in batch.clips]) if names else None
        lengths = torch.tensor([clip.samples for clip in batch.clips])
        tensors = (batch.samples, batch.scored, batch.times, lengths, speakers)
        return self.loss(*(None if tensor is None else tensor.to(self.device) for tensor in tensors))

    def _eager_loss(
        self, samples: Tensor, scored: Tensor, times: Tensor, lengths: Tensor, speakers: Tensor | None
    ) -> Tensor:
        """Samples `(B, margin + context + window + margin)` int16, scored `(B, window)`, the rest `(B,)`."""
        model, margin, waveform = self.model, self.sampler.margin, from_int16(samples)
        conditioning = Conditioning(speaker=speakers)
        if model.log_mel is not None:
            with torch.no_grad():
                features, first = model.log_mel.around(waveform, margin, times, lengths)
            conditioning = Conditioning(speakers, features, model.log_mel.config.silence, first)
        symbols = model.encode(waveform)[:, margin : samples.shape[1] - margin]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            parameters = model(symbols[:, :-1], conditioning)[:, :, -scored.shape[1] :]
        log_probs = model.distribution.log_prob(parameters, symbols[:, -scored.shape[1] :])
        return -(log_probs * scored).sum() / scored.sum() / math.log(2)

    def step(self) -> float:
        """One step of gradient descent; its loss in bits per sample. `FloatingPointError` if that is not finite."""
        begun = time.perf_counter()
        batch = self.sampler.batch(self.progress.step)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = self.batch_loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        bits = loss.item()
        if not math.isfinite(bits) or not math.isfinite(float(norm)):
            raise FloatingPointError(
                f"step {self.progress.step + 1}: the loss is {bits:.4g} and its gradient {float(norm):.4g}; "
                "training stopped, the last checkpoint (if there is one) is kept; try lower learning rates"
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * rate_share(self.config, self.progress.step)
            optimizer.step()
        self._update_average()
        self.progress.step += 1
        self.progress.bits_sum += bits
        self.progress.bits_count += 1
        self.progress.seconds += time.perf_counter() - begun
        return bits

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights, with a shorter memory while the run is young."""
        decay = min(self.config.ema_decay, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def evaluate(self) -> float:
        """Bits per sample of the averaged model on the held-out clips."""
        return Score.pooled(evaluate(self.average, self.dataset, self.held_out).values()).bits

    def example(self) -> Conditioning:
        """The conditioning of the first held-out clip."""
        clip = self.held_out[0]
        waveform = from_int16(self.dataset.read(clip)).to(self.device)
        return condition_on(self.average, waveform, speaker_of(self.average, clip))

    def state(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "dataset_sha256": self.dataset.manifest.sha256,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": vars(self.progress).copy(),
        }

    @torch.no_grad()
    def begin_with(self, path: Path) -> None:
        """Start from a model file's weights, as far as they fit by name and shape (and speakers by their names)."""
        other = WaveNet.from_pretrained(path)
        theirs = other.state_dict()
        if other.config.speakers != self.model.config.speakers:
            theirs.pop("conditioner.table.weight", None)
        own = self.model.state_dict()
        fitting = {name: tensor for name, tensor in theirs.items() if name in own and tensor.shape == own[name].shape}
        if not fitting:
            raise ValueError(f"train.init_from is {path}, of which no weight fits this model; expected a similar one")
        self.model.load_state_dict({**own, **fitting})
        self.average.load_state_dict({**own, **fitting})
        fresh = ", ".join(sorted(own.keys() - fitting.keys()))
        self.observer.note(f"started from {path}" + (f"; not in it, and fresh: {fresh}" if fresh else ""))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint. `ValueError` where it belongs to another recipe or another dataset."""
        if not {"recipe", "dataset_sha256", "model", "average", "optimizers", "progress"} <= state.keys():
            raise ValueError(
                f"the checkpoint in {self.recipe.run} is not whole; begin another run with --set run=FOLDER"
            )
        if not _is_recipe(state["recipe"]) or not isinstance(state["progress"], dict):
            raise ValueError(f"the checkpoint in {self.recipe.run} is damaged; begin another run with --set run=FOLDER")
        _refuse_changed_recipe(state["recipe"], self.recipe.to_dict())
        if state["dataset_sha256"] != self.dataset.manifest.sha256:
            raise ValueError(
                f"{self.recipe.dataset} has changed since the run began; start a new run, with another `run`"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(optimizer_state)
            self.progress = Progress(**state["progress"])
            if not 0 <= self.progress.step <= self.config.steps:
                raise ValueError(f"its step is {self.progress.step} of {self.config.steps}")
            if not all(bool(p.isfinite().all()) for p in (*self.model.parameters(), *self.average.parameters())):
                raise ValueError("it has weights that are not finite")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"the checkpoint in {self.recipe.run} does not fit its recipe ({error})") from error


def _with_speakers(model: WaveNetConfig, clips: Sequence[PreparedClip]) -> WaveNetConfig:
    """A model with `speaker_channels` and no names takes the names from the clips it is trained on."""
    if model.speaker_channels is None:
        return model
    found = {clip.speaker for clip in clips}
    if None in found:
        raise ValueError("model.speaker_channels is set, and the dataset names no speakers; prepare it with --speakers")
    names = tuple(sorted(name for name in found if name is not None))
    if model.speakers and set(names) - set(model.speakers):
        raise ValueError(f"model.speakers lacks {sorted(set(names) - set(model.speakers))[0]!r} of the dataset")
    return replace(model, speakers=model.speakers or names)


def _wants_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """`auto` takes bfloat16 where the hardware multiplies it: emulated, it is forty times slower than float32."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _is_recipe(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(values.get(section), dict) for section in ("model", "train"))


def _refuse_changed_recipe(before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [
        f"{section}.{key} was {before[section].get(key)!r}, is {now[section].get(key)!r}"
        for section in ("model", "train")
        for key in sorted(before[section].keys() | now[section].keys())
        if before[section].get(key) != now[section].get(key)
    ]
    if changed:
        raise ValueError(
            f"the recipe has changed since the run began ({'; '.join(changed)}); "
            "restore it, or begin another run with --set run=FOLDER"
        )
