"""The settings of a training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from wavenet.data import Augmentation
from wavenet.network import plain_numbers


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a training. Windows are in samples, intervals in steps.

    The learning rates rise linearly over `warmup_steps` and fall linearly to zero over the last `decay_share` of
    the run. With `optimizer = "muon"` the matrices take `muon_learning_rate`, the rest `learning_rate` with Adam;
    `weight_decay` is Muon's.
    A step takes `batch_size` windows, however many processes share them. With `accumulate` each process computes its
    part in that many micro-batches, which costs time and saves memory, as does `checkpoint_activations` (recomputing
    the activations for the gradient). `precision = "auto"` is bfloat16 on hardware that multiplies it, else float32;
    `compile = "auto"` compiles if the precision is bfloat16, where it pays. `evaluation_seconds` bounds the held-out
    audio that an evaluation scores. `augmentation` changes the windows. With `listen` an evaluation also scores so many
    held-out clips as the model copies them in free running (or so much babble), because likelihood is not sound: a
    network may predict better and sound worse (see `Augmentation.input_noise`).

    A run folder keeps the last `keep_models` evaluated models, beside the newest, the best by bits per sample, and with
    `listen` the best by free-running scores.
    Some fields are for recipes and the command line, not for a `Trainer`: `speakers` restricts training to these
    speakers of the datasets, and `init_from` is a model file, or a shipped model's name, to start from. With `audio`
    each evaluation leaves `audio_seconds` of generated audio in the run folder, made beside the training; `tensorboard`
    writes curves, and as much audio, for TensorBoard.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True}

    steps: int
    init_from: Path | None = None
    speakers: tuple[str, ...] = ()
    batch_size: int = 2
    accumulate: int = 1
    checkpoint_activations: bool = False
    window: int = 4000
    optimizer: Literal["muon", "adam"] = "muon"
    learning_rate: float = 1e-3
    muon_learning_rate: float = 0.01
    weight_decay: float = 0.1
    warmup_steps: int = 20
    decay_share: float = 1.0
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 1000
    checkpoint_every: int = 500
    evaluation_seconds: float = 30.0
    keep_models: int = 0
    listen: int = 0
    augmentation: Augmentation | None = None
    tensorboard: bool = False
    audio: bool = False
    audio_seconds: float = 1.0

    def __post_init__(self) -> None:
        plain_numbers(self)
        for name in ("optimizer", "precision", "compile"):
            choices = get_args(get_type_hints(type(self))[name])
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}")
        for name in ("steps", "batch_size", "accumulate", "window", "log_every", "evaluate_every", "checkpoint_every"):
            if not 1 <= getattr(self, name) <= 2**31:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 to 2^31")
        for name in ("learning_rate", "muon_learning_rate", "gradient_clip", "evaluation_seconds"):
            if not 0 < getattr(self, name) < 1e38:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive number below 1e38")
        if not 0 < self.audio_seconds <= 60:
            raise ValueError(f"audio_seconds is {self.audio_seconds}; expected over 0, up to 60")
        for name in ("warmup_steps", "seed", "weight_decay", "keep_models", "listen"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more, below 2^63")
        for name, below in (("decay_share", 1.0000001), ("ema_decay", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size is {self.batch_size}; expected a multiple of accumulate, {self.accumulate}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in recipes and checkpoints."""
        init_from = None if self.init_from is None else str(self.init_from)
        return {**asdict(self), "speakers": list(self.speakers), "init_from": init_from}
