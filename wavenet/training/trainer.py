"""Trains a model on clips: its average, optimizers and progress; a step, an evaluation, and the state of a run."""

import copy
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wavenet.data import Batch, BatchReader, Clip, Source, WindowSampler, pick_clips_lasting, read_clip
from wavenet.evaluation import Score, condition_on, evaluate, labels_of, missing_packages, score_free_running
from wavenet.network import Conditioning, WaveNet
from wavenet.training.capacity import micro_batches, reading_processes, refuse_too_large, wants_bfloat16
from wavenet.training.checkpoint import Progress, refuse_changes
from wavenet.training.config import TrainConfig
from wavenet.training.distributed import ALONE, Processes
from wavenet.training.objective import Objective, compile_objective, objective_inputs
from wavenet.training.observer import Keeper, Observer
from wavenet.training.optimizer import optimizers_for, rate_share
from wavenet.training.sources import measure_conditioning, pick_from_each, suitable_sources
from wavenet.training.warm_start import copy_fitting_weights


class Trainer:
    """Trains `model` in place. `average`, a moving average of its weights, is the model to evaluate, save and use.

    >>> from wavenet import TrainConfig, Trainer, WaveNet, WaveNetConfig, tensor_clips
    >>> clips = tensor_clips([torch.rand(2000) - 0.5 for _ in range(3)], sample_rate=16000)
    >>> model = WaveNet(WaveNetConfig(dilations=[1, 2, 4], residual_channels=8))
    >>> trainer = Trainer(model, clips[1:], clips[:1], TrainConfig(steps=2, window=500, compile="off"))
    >>> held_out_bits = trainer.run()
    >>> trainer.progress.step
    2
    """

    def __init__(
        self,
        model: WaveNet,
        train: Sequence[Clip] | Sequence[Source],
        held_out: Sequence[Clip] | Sequence[Source],
        config: TrainConfig,
        *,
        observer: Observer | None = None,
        processes: Processes = ALONE,
        device: torch.device | str | None = None,
    ) -> None:
        """Move `model` to `device`, this rank's GPU or else the CPU if not given.

        Among several ranks each trains on its rows of every batch.

        `train` and `held_out` are clips, or sources of clips with weights; of `held_out` about
        `config.evaluation_seconds` are scored, the sources giving equal parts.
        The model is in training mode while it steps; the average is in evaluation mode. The run depends on the model's
        weights, the clips and `config` alone, unless the model itself draws random numbers in training (dropout).
        Raises `ValueError` if the clips do not suit the model.
        """
        self.config, self.processes = config, processes
        self.observer = observer or Observer()
        if config.init_from is not None or config.speakers:
            raise ValueError(
                "config sets init_from or speakers, which only recipes use; call begin_with(model), or choose the clips"
            )
        if model.config.speaker_channels is not None and not model.config.known_labels:
            raise ValueError("the model takes speakers as vectors, which clips do not have; name them in its config")
        sources, watched = suitable_sources(train, model, "train"), suitable_sources(held_out, model, "held_out")
        scored_samples = int(config.evaluation_seconds / len(watched) * model.config.sample_rate)
        if config.listen and missing_packages():
            raise ValueError(
                f"config.listen needs {', '.join(missing_packages())}; pip install 'wavenet-toolkit[scores]', or leave "
                "listen at 0"
            )
        self.clips_to_copy = pick_from_each(watched, config.listen)
        self.held_out = [replace(source, clips=pick_clips_lasting(source.clips, scored_samples)) for source in watched]
        self.rows = micro_batches(config, processes)
        own_device = torch.device("cuda", processes.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        self.device = own_device if device is None else torch.device(device)
        self.model = model.to(self.device)
        self.model.recompute = config.checkpoint_activations
        if self.model.feature_statistics is None:
            measure_conditioning(self.model, sources)
        self.average = copy.deepcopy(self.model).eval()
        self.optimizers = optimizers_for(self.model, config)
        self.sampler = WindowSampler(
            sources=sources,
            context=model.alignment.round_up(model.context),
            window=config.window,
            batch_size=config.batch_size,
            seed=config.seed,
            margin=model.alignment.margin,
            grid=model.alignment.grid,
            augmentation=config.augmentation,
        )
        self.reader = BatchReader(self.sampler, self.rows, workers=reading_processes(self.device, processes))
        self.progress = Progress()
        self.autocast = wants_bfloat16(config, self.device)
        refuse_too_large(model, self.rows[0].stop - self.rows[0].start, config.window, self.sampler.context)
        self.record: dict[str, Any] = {
            "dataset": [{"weight": source.weight} for source in sources],
            "model": {**model.config.to_dict(), **({"own_parts": model.own_parts} if model.own_parts else {})},
            "train": config.to_dict(),
        }
        """The settings that a checkpoint records, and that must be the same to resume."""
        self.checksum = " ".join(source.fingerprint for source in sources)
        """The checksum of the audio to train on, which must be the same to resume."""
        self.held_out_checksum = " ".join(source.fingerprint for source in watched)
        """The checksum of all held-out audio, scored or not, which must be the same too."""

    @cached_property
    def objective(self) -> nn.Module:
        """The loss as a module. All ranks must call this: it checks that they agree and broadcasts rank 0's weights."""
        objective = Objective(self.model, self.sampler.margin, self.autocast)
        return DistributedDataParallel(objective) if self.processes.count > 1 else objective

    @cached_property
    def loss(self) -> Callable[..., Tensor]:
        """The objective, compiled if the configuration says so."""
        if self.config.compile == "off" or (self.config.compile == "auto" and not self.autocast):
            return self.objective
        return compile_objective(self.objective, self.model, self.observer.note)

    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the part of these rows in the batch's mean bits per scored sample: `()`, on the training device."""
        tensors = objective_inputs(self.model, batch, self.sampler.margin)
        bits = self.loss(*(None if tensor is None else tensor.to(self.device) for tensor in tensors))
        return bits / batch.scored_in_all

    def step(self) -> float:
        """Take one step; returns its loss in bits per sample. `FloatingPointError` if that is not finite.

        All ranks must call this.
        """
        if self.progress.step >= self.config.steps:
            raise ValueError(f"all {self.config.steps} steps are taken; expected a config with more steps")
        begun = time.perf_counter()
        self.model.train()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        bits = self._accumulate_gradient()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip))
        if not math.isfinite(bits) or not math.isfinite(norm):
            step = self.progress.step
            clips = ", ".join(clip.name for clip in self.sampler.batch(step).clips)
            raise FloatingPointError(
                f"step {step + 1}: the loss is {bits:.4g} and its gradient {norm:.4g}, on windows of {clips}; "
                "training stopped, the last checkpoint (if there is one) is kept; try lower learning rates in a new "
                "run, if need be from this one's best model (begin_with; train.init_from in a recipe)"
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * rate_share(self.config, self.progress.step)
            optimizer.step()
        self._update_average()
        self.progress.step += 1
        self.progress.bits_sum += bits
        self.progress.norm_sum += norm
        self.progress.bits_count += 1
        self.progress.seconds += time.perf_counter() - begun
        return bits

    def _accumulate_gradient(self) -> float:
        """Compute the gradient of a whole batch, micro-batch by micro-batch; returns its bits per sample."""
        bits, objective = torch.zeros((), device=self.device), self.objective
        for number, batch in enumerate(self.reader.read(self.progress.step), 1):
            waits = isinstance(objective, DistributedDataParallel) and number < len(self.rows)
            with objective.no_sync() if waits else nullcontext():  # type: ignore[operator]
                loss = self.batch_loss(batch)
                # DistributedDataParallel averages the gradients of the ranks; their sum is wanted
                (loss * self.processes.count).backward()  # type: ignore[no-untyped-call]
            bits += loss.detach()
        return float(self.processes.total(bits))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights, with a shorter memory in the first steps; buffers are copied."""
        decay = min(self.config.ema_decay, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        for averaged, buffer in zip(self.average.buffers(), self.model.buffers(), strict=True):
            averaged.copy_(buffer)

    def evaluate(self) -> float:
        """Bits per sample of the average on the held-out clips. All ranks must call this: each scores some clips."""
        scores: list[Score] = []
        for source in self.held_out:
            if mine := source.clips[self.processes.rank :: self.processes.count]:
                scores += evaluate(self.average, mine).values()
        return Score.pooled(self.processes.gather(scores)).bits

    def _score_free_running(self) -> dict[str, float]:
        """Scores of the average in free running on `config.listen` held-out clips, by rank 0."""
        if not self.config.listen or not self.processes.first:
            return {}
        return score_free_running(self.average, self.clips_to_copy)

    def example(self) -> Conditioning:
        """The conditioning of the first held-out clip."""
        clip = self.held_out[0].clips[0]
        return condition_on(self.average, clip, read_clip(clip).to(self.device), labels_of(self.average, clip))

    def run(self) -> float:
        """Take all steps that are left, and return the held-out bits per sample after the last one.

        Nothing is written; `train` does the same and keeps a run folder. All ranks must call this.
        """
        bits = self.proceed()
        return self.evaluate() if bits is None else bits

    def proceed(self, keeper: Keeper | None = None, stop: Callable[[], bool] = lambda: False) -> float | None:
        """Step to `config.steps`, or until `stop()` is true on a rank. Rank 0 tells the keeper.

        Returns the last evaluation's bits per sample, or `None` if there was none. All ranks must call this.
        """
        config, progress, keeper, bits = self.config, self.progress, keeper or Keeper(), None
        while progress.step < config.steps:
            if self.processes.total(torch.tensor(float(stop()), device=self.device)):
                break
            loss = self.step()
            self.observer.stepped(progress.step, loss)
            last = progress.step == config.steps
            if progress.step % config.log_every == 0 or last:
                speed = progress.step * config.batch_size * config.window / progress.seconds
                rate = rate_share(config, progress.step - 1)
                self._log(keeper, **progress.take_averages(), rate=rate, samples_per_second=speed)
            if progress.step % config.evaluate_every == 0 or last:
                bits = self.watch(keeper)
            if progress.step % config.checkpoint_every == 0 and not last and self.processes.first:
                keeper.save()
        return bits

    def watch(self, keeper: Keeper) -> float:
        """Evaluate; rank 0 tells the observer and the keeper. All ranks must call this."""
        bits, scores = self.evaluate(), self.processes.together(self._score_free_running)
        self._log(keeper, held_out_bits=bits, **scores)
        if self.processes.first:
            keeper.evaluated(bits, scores)
            self.observer.evaluated(self.progress.step, bits, self.average, self.example())
        return bits

    def _log(self, keeper: Keeper, **values: float) -> None:
        if self.processes.first:
            record = {"step": self.progress.step, **values, "seconds": round(self.progress.seconds, 3)}
            keeper.log(record)
            self.observer.logged(record)

    @property
    def fingerprint(self) -> str:
        """The step, and checksums of weights, settings and audio: ranks can train together if theirs are the same."""
        weights = b"".join(parameter.detach().cpu().numpy().tobytes() for parameter in self.model.parameters())
        weighted = [source.weight for source in self.sampler.sources]
        given = [self.record["model"], self.record["train"], weighted, self.checksum, self.held_out_checksum]
        checks = [f"{zlib.crc32(data):08x}" for data in (weights, json.dumps(given).encode())]
        return f"step {self.progress.step}, weights {checks[0]}, settings and audio {checks[1]}"

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on, as `save_checkpoint` writes it and `restore` takes it."""
        return {
            "recipe": self.record,
            "dataset_sha256": self.checksum,
            "held_out_sha256": self.held_out_checksum,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": vars(self.progress).copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`. Raises `ValueError`, and changes nothing, if settings, audio or model are others."""
        refuse_changes(state, self.record, self.checksum, self.held_out_checksum)
        before, now = (
            {name: list(tensor.shape) for name, tensor in weights.items()}
            for weights in (state["model"], self.model.state_dict())
        )
        if before != now:
            name = min(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
            raise ValueError(
                f"the state is of another model: the shape of {name} is {before.get(name)} there, {now.get(name)} here"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(copy.deepcopy(optimizer_state))  # which would share its tensors
        self.progress = Progress(**state["progress"])

    def begin_with(self, other: WaveNet, name: str = "another model") -> None:
        """Start from the weights of `other`, as far as they fit by name and shape, and from its speakers by name.

        The observer is told what does not fit; `name` stands for `other` there. Raises `ValueError` if nothing fits.
        """
        try:
            misfits, *notes = copy_fitting_weights(self.model, other)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self.average.load_state_dict(self.model.state_dict())
        self.observer.note(f"started from {name}" + (f"; {misfits}" if misfits else ""))
        for note in notes:
            self.observer.note(note)
