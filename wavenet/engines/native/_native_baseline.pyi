"""What each of the native modules offers. `B` streams, `T` steps, `L` layers; arrays are C-contiguous, on the CPU."""

from collections.abc import Sequence

from torch import Tensor

def instruction_sets() -> tuple[str, ...]:
    """The instruction sets of this processor that a module was written for, the widest first."""

class Model:
    """Packed weights, shared by any number of generators."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that one sample reads."""

def model(
    *,
    weights: str,
    kernel_size: int,
    dilations: Sequence[int],
    convolutions: Sequence[Tensor],
    convolution_biases: Tensor,
    residuals: Sequence[Tensor],
    skip: Tensor,
    skip_bias: Tensor,
    head: Tensor,
    head_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    table: Tensor,
    rows: int,
    decoded: Tensor,
    distribution: str,
    components: int,
    order: int,
    block: int,
    noise_floor: float,
    quietest: float,
    window: Sequence[float],
) -> Model: ...

class Generator:
    """The state of `batch` streams."""

    def __init__(self, model: Model, batch: int, threads: int) -> None: ...
    def load(self, time: int, latest: Tensor, samples: Tensor, queues: Sequence[Tensor]) -> None:
        """`latest` `(B,)`, `samples` `(B, history)`, for each layer `(B, context, residual)`, oldest first."""

    def save(self, latest: Tensor, samples: Tensor, queues: Sequence[Tensor]) -> int:
        """Fills in what `load` takes; gives the time."""

    @property
    def time(self) -> int:
        """Of the newest sample."""

    def run(
        self,
        *,
        uniforms: Tensor | None,
        symbols: Tensor,
        parameters: Tensor,
        biases: Tensor | None,
        correlation: Tensor | None,
        first_block: int,
        temperature: float,
        top_k: int,
        top_p: float,
    ) -> None:
        """Fills `symbols` `(B, T)` and `parameters` `(B, T, P)`; without uniforms the symbols are given, and scored."""

def read_rate(working_set: int) -> float:
    """Bytes per second of reading a working set of so many bytes over and over, on one core."""

def multiply_add_rate() -> float:
    """Multiply-adds per second in float32, on one core."""
