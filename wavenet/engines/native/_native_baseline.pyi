"""The native modules, one for each instruction set. `B` streams, `T` steps; arrays are C-contiguous, on the CPU."""

from collections.abc import Sequence

from torch import Tensor

def instruction_sets() -> tuple[str, ...]:
    """The instruction sets of this processor for which there is a module, the widest first."""

class Projection:
    """`y = weight x + bias`, `weight` `(outputs, inputs)`."""

    def __init__(self, *, weight: Tensor, bias: Tensor) -> None: ...

class Layer:
    """A block: `convolution` has the columns of the oldest tap first; the last layer has no `residual`."""

    def __init__(self, *, dilation: int, convolution: Projection, residual: Tensor | None) -> None: ...

class Distribution:
    """`decoded` is the waveform value of each symbol; a categorical distribution has 0 components."""

    def __init__(self, *, kind: str, components: int, decoded: Sequence[float]) -> None: ...

class Prediction:
    """Linear prediction; `window` is empty if features give the autocorrelation."""

    def __init__(
        self, *, order: int, block: int, noise_floor: float, quietest: float, window: Sequence[float]
    ) -> None: ...

class Description:
    """A model's weights, as Python stores them; `table` is that of the embedding."""

    def __init__(
        self,
        *,
        layers: Sequence[Layer],
        skip: Projection,
        head: Projection,
        output: Projection,
        table: Tensor,
        distribution: Distribution,
        prediction: Prediction | None,
    ) -> None: ...

class Model:
    """Packed weights, shared by any number of generators. They are copies: the description can go."""

    def __init__(self, description: Description, weights: str) -> None: ...
    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one sample reads."""

class SamplingOptions:
    """`top_k` 0 and `top_p` 0 are off."""

    def __init__(self, *, temperature: float, top_k: int, top_p: float) -> None: ...

class Generator:
    """The state of `batch` streams."""

    def __init__(self, model: Model, batch: int, threads: int) -> None: ...
    def load(self, time: int, latest: Tensor, samples: Tensor, queues: Sequence[Tensor]) -> None:
        """`latest` `(B,)`, `samples` `(B, history)`, and a queue `(B, context, residual)` per layer; oldest first."""

    def save(self, latest: Tensor, samples: Tensor, queues: Sequence[Tensor]) -> int:
        """Fills the arrays that `load` reads, and returns the time."""

    @property
    def time(self) -> int:
        """The time of the newest symbol."""

    def run(
        self,
        *,
        uniforms: Tensor | None,
        symbols: Tensor,
        parameters: Tensor,
        biases: Tensor | None,
        correlation: Tensor | None,
        first_block: int,
        options: SamplingOptions,
    ) -> None:
        """Fills `symbols` `(B, T)` and `parameters` `(B, T, P)`. Without `uniforms` it reads the symbols instead."""

def read_rate(working_set: int) -> float:
    """Bytes per second when one core reads a working set of that many bytes repeatedly."""

def multiply_add_rate() -> float:
    """Float32 multiply-adds per second of one core."""
