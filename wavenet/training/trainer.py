"""One run of training: its model, average, optimizers and progress; a step, and all of its state."""

import copy
import json
import math
import os
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wavenet.data import Batch, PreparedDataset, WindowSampler, from_int16
from wavenet.evaluation import Score, condition_on, evaluate, speaker_of
from wavenet.machine import multiplies_bfloat16
from wavenet.network import Conditioning, WaveNet
from wavenet.training.checkpoint import Progress
from wavenet.training.distributed import ALONE, Processes
from wavenet.training.observer import Observer
from wavenet.training.optimizer import optimizers_for, rate_share, restore_optimizer
from wavenet.training.recipe import Recipe, TrainConfig, refuse_changes
from wavenet.training.splits import training_sources, watched_sources, with_speakers

__all__ = ["Objective", "Trainer"]


class Objective(nn.Module):
    """What training makes small: the bits of a batch's samples, for a `WaveNet` and windows of a `WindowSampler`."""

    def __init__(self, model: WaveNet, margin: int, autocast: bool) -> None:
        super().__init__()
        self.model, self.margin, self.autocast = model, margin, autocast

    def forward(
        self, samples: Tensor, scored: Tensor, times: Tensor, lengths: Tensor, speakers: Tensor | None
    ) -> Tensor:
        """Samples `(B, margin + context + window + margin)` int16, scored `(B, window)`, the rest `(B,)` -> `()`.

        The sum over the scored samples.
        """
        model, margin, waveform = self.model, self.margin, from_int16(samples)
        conditioning = Conditioning(speaker=speakers)
        if model.log_mel is not None:
            with torch.no_grad():
                features, first = model.log_mel.around(waveform, margin, times, lengths)
            conditioning = Conditioning(speakers, features, model.log_mel.config.silence, first)
        symbols = model.encode(waveform)[:, margin : samples.shape[1] - margin]
        with torch.autocast(samples.device.type, torch.bfloat16, enabled=self.autocast):
            parameters = model(symbols[:, :-1], conditioning)[:, :, -scored.shape[1] :]
        log_probs = model.distribution.log_prob(parameters, symbols[:, -scored.shape[1] :])
        return -(log_probs * scored).sum() / math.log(2)


class Trainer:
    """Model, average, optimizers and progress of one run; `step` does one step, `state` is all of it.

    Of several processes each takes its rows of every batch; they all hold the same model.
    """

    def __init__(self, recipe: Recipe, observer: Observer, processes: Processes = ALONE) -> None:
        self.config, self.observer, self.processes = recipe.train, observer, processes
        self.datasets = [PreparedDataset(share.path) for share in recipe.datasets]
        sources = training_sources(recipe, self.datasets)
        clips = [clip for source in sources for clip in source.clips]
        self.recipe = recipe = replace(recipe, model=with_speakers(recipe.model, clips))
        for dataset in self.datasets:
            if dataset.sample_rate != recipe.model.sample_rate:
                raise ValueError(
                    f"{dataset.path} has {dataset.sample_rate} Hz, the recipe's model.sample_rate is "
                    f"{recipe.model.sample_rate}; prepare the dataset with --sample-rate {recipe.model.sample_rate}"
                )
        share, left = divmod(self.config.batch_size, processes.count * self.config.accumulate)
        if left:
            raise ValueError(
                f"train.batch_size is {self.config.batch_size}; expected a multiple of "
                f"{processes.count * self.config.accumulate}, {processes.count} processes times train.accumulate"
            )
        begin = processes.rank * share * self.config.accumulate
        self.parts = [slice(begin + turn * share, begin + (turn + 1) * share) for turn in range(self.config.accumulate)]
        self.device = torch.device("cuda", processes.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.model = WaveNet(recipe.model)
        self.model.recompute = self.config.checkpoint_activations
        self.model.to(self.device)
        self.average = copy.deepcopy(self.model)
        self.optimizers = optimizers_for(self.model, self.config)
        self.sampler = WindowSampler(
            sources=sources,
            context=self.model.alignment.whole(self.model.context),
            window=self.config.window,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            margin=self.model.alignment.margin,
            grid=self.model.alignment.grid,
        )
        self.held_out = watched_sources(recipe, self.datasets)
        self.progress = Progress()
        self.autocast = _wants_bfloat16(self.config, self.device)
        self._refuse_too_large(share)

    def _refuse_too_large(self, rows: int) -> None:
        """`ValueError` where not even the gates of a turn's rows fit in memory: the system would kill the process.

        At two bytes each: what is refused is too large in any precision.
        """
        layers = 1 if self.model.recompute else len(self.model.blocks)
        numbers = rows * (self.sampler.context + self.config.window) * self.model.config.gate_channels * layers
        cpu = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = torch.cuda.mem_get_info(self.device)[1] if self.device.type == "cuda" else cpu
        if 2 * numbers > memory:
            raise ValueError(
                f"{rows} windows of {self.config.window:,} samples at a time do not fit: their gates alone take "
                f"{2 * numbers / 2**30:,.0f} GiB of {memory / 2**30:,.0f}; lower train.batch_size or train.window, "
                "or raise train.accumulate"
            )

    @cached_property
    def objective(self) -> nn.Module:
        """Of several processes all must be here: they compare what they hold, and take over the first one's."""
        objective = Objective(self.model, self.sampler.margin, self.autocast)
        return DistributedDataParallel(objective) if self.processes.count > 1 else objective

    @cached_property
    def loss(self) -> Callable[..., Tensor]:
        """The objective, compiled where asked to; where that fails, eager, which is said."""
        if self.config.compile == "off" or (self.config.compile == "auto" and not self.autocast):
            return self.objective
        compiled = torch.compile(self.objective, dynamic=False)

        def first_call(*batch: Any) -> Tensor:
            try:  # the backward pass is compiled when it is first asked for; `grad` asks without a word to others
                torch.autograd.grad(compiled(*batch), list(self.model.parameters()), allow_unused=True)
                loss: Tensor = compiled(*batch)
                self.loss = compiled
            except RuntimeError as error:
                self.observer.note(f"torch.compile does not work here ({str(error).splitlines()[0]}); training eagerly")
                self.loss = self.objective
                loss = self.objective(*batch)
            return loss

        return first_call

    def batch_loss(self, batch: Batch) -> Tensor:
        """This part's share of the batch's mean bits per scored sample, on the training device."""
        names = self.recipe.model.speakers
        speakers = torch.tensor([names.index(clip.speaker or "") for clip in batch.clips]) if names else None
        lengths = torch.tensor([clip.samples for clip in batch.clips])
        tensors = (batch.samples, batch.scored, batch.times, lengths, speakers)
        bits = self.loss(*(None if tensor is None else tensor.to(self.device) for tensor in tensors))
        return bits / batch.scored_in_all

    def step(self) -> float:
        """One step of gradient descent; its loss in bits per sample. `FloatingPointError` if that is not finite."""
        begun = time.perf_counter()
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
                "run (--set run=FOLDER), if need be from this one's best.safetensors (--set train.init_from=FILE)"
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
        """The gradient of a whole batch, part by part; its bits per sample, over all processes."""
        bits = torch.zeros((), device=self.device)
        for turn, rows in enumerate(self.parts):
            batch = self.sampler.batch(self.progress.step, rows)
            waits = isinstance(self.objective, DistributedDataParallel) and turn + 1 < len(self.parts)
            with self.objective.no_sync() if waits else nullcontext():  # type: ignore[operator]
                loss = self.batch_loss(batch)
                (loss * self.processes.count).backward()  # type: ignore[no-untyped-call]  # they are averaged
            bits += loss.detach()
        return float(self.processes.total(bits))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of the weights, with a shorter memory while the run is young."""
        decay = min(self.config.ema_decay, (1 + self.progress.step) / (10 + self.progress.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def evaluate(self) -> float:
        """Bits per sample of the averaged model on the held-out clips, of which each process takes some."""
        scores: list[Score] = []
        for source in self.held_out:
            mine = source.clips[self.processes.rank :: self.processes.count]
            scores += evaluate(self.average, source.dataset, mine).values()
        return Score.pooled(self.processes.gather(scores)).bits

    def example(self) -> Conditioning:
        """The conditioning of the first held-out clip."""
        source = self.held_out[0]
        clip = source.clips[0]
        waveform = from_int16(source.dataset.read(clip)).to(self.device)
        return condition_on(self.average, waveform, speaker_of(self.average, clip))

    @property
    def fingerprint(self) -> str:
        """Where the run stands and, in short, what it is: processes that differ in it cannot go on together."""
        weights = b"".join(parameter.detach().cpu().numpy().tobytes() for parameter in self.model.parameters())
        recipe = self.recipe.to_dict()
        given = [recipe["model"], recipe["train"], [share.weight for share in self.recipe.datasets], self._checksums]
        checks = [f"{zlib.crc32(data):08x}" for data in (weights, json.dumps(given).encode())]
        return f"step {self.progress.step}, weights {checks[0]}, recipe and dataset {checks[1]}"

    def state(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.to_dict(),
            "dataset_sha256": self._checksums,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": vars(self.progress).copy(),
        }

    @property
    def _checksums(self) -> str:
        return " ".join(dataset.manifest.sha256 for dataset in self.datasets)

    @torch.no_grad()
    def begin_with(self, path: Path) -> None:
        """Start from a model file's weights, as far as they fit by name and shape, and speakers by their names."""
        other = WaveNet.from_pretrained(path)
        own, theirs = self.model.state_dict(), other.state_dict()
        fitting = {name: tensor for name, tensor in theirs.items() if name in own and tensor.shape == own[name].shape}
        fresh = own.keys() - fitting.keys()
        unused = theirs.keys() - fitting.keys()
        names, known = self.model.config.speakers, other.config.speakers
        if names != known and _SPEAKERS in own and _SPEAKERS in theirs:
            fresh |= {f"speaker {name}" for name in names if name not in known}
            fresh, unused = fresh - {_SPEAKERS}, unused - {_SPEAKERS}
            fitting[_SPEAKERS] = own[_SPEAKERS].clone()
            for name in set(names) & set(known):
                fitting[_SPEAKERS][names.index(name)] = theirs[_SPEAKERS][known.index(name)]
        if not fitting:
            raise ValueError(f"train.init_from is {path}, of which no weight fits this model; expected a similar one")
        self.model.load_state_dict({**own, **fitting})
        self.average.load_state_dict({**own, **fitting})
        named = {
            "of another shape there, and fresh": fresh & unused,
            "not in it, and fresh": fresh - unused,
            "in it, and left out": unused - fresh,
        }
        told = [f"; {what}: {', '.join(sorted(names))}" for what, names in named.items() if names]
        self.observer.note(f"started from {path}{''.join(told)}")
        for name in (
            "sample_rate",
            "kernel_size",
            "dilations",
            "distribution",
            "features",
            "prediction",
            "pre_emphasis",
        ):
            before, now = getattr(other.config, name), getattr(self.model.config, name)
            if before != now:
                self.observer.note(f"it was trained with model.{name} {before}; here it is {now}")

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `load_checkpoint` read. `ValueError` where it belongs to another recipe or dataset."""
        refuse_changes(state["recipe"], self.recipe.to_dict())
        if state["dataset_sha256"] != self._checksums:
            changed = ", ".join(str(dataset.path) for dataset in self.datasets)
            raise ValueError(f"{changed} has changed since the run began; start a new run, with another `run`")
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.progress = Progress(**state["progress"])
            for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
                restore_optimizer(optimizer, optimizer_state, begun=self.progress.step > 0)
            if self.progress.step > self.config.steps:
                raise ValueError(f"its step is {self.progress.step} of {self.config.steps}")
            if not all(bool(p.isfinite().all()) for p in (*self.model.parameters(), *self.average.parameters())):
                raise ValueError("it has weights that are not finite")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"the checkpoint in {self.recipe.run} does not fit its recipe ({error})") from error


_SPEAKERS = "conditioner.table.weight"


def _wants_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """`auto` takes bfloat16 where the hardware multiplies it: emulated, it is forty times slower than float32."""
    return multiplies_bfloat16(device) if config.precision == "auto" else config.precision == "bfloat16"
