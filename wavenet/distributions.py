"""What the network's output means: a distribution over the next sample.

The network emits parameters; the distribution owns how waveforms become its symbols and back, the
likelihood, and sampling. Network, training and engines hold a distribution and never ask which.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from wavenet.quantize import check_classes, decode_mu_law, encode_mu_law, silence_class
from wavenet.sampling import SamplingOptions, sample_classes

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical:
    """A softmax over µ-law classes (WaveNet paper, section 2.2). Its symbols are class indices."""

    classes: int = 256

    def __post_init__(self) -> None:
        check_classes(self.classes)

    @property
    def parameters(self) -> int:
        """How many numbers the network gives for each sample."""
        return self.classes

    @property
    def silence(self) -> int:
        """The symbol of a sample of value 0.0."""
        return silence_class(self.classes)

    def encode(self, waveform: Tensor) -> Tensor:
        """A waveform in [-1, 1] to symbols of the same shape."""
        return encode_mu_law(waveform, self.classes)

    def decode(self, symbols: Tensor) -> Tensor:
        """Symbols to a float32 waveform in [-1, 1] of the same shape."""
        return decode_mu_law(symbols, self.classes)

    def log_prob(self, parameters: Tensor, symbols: Tensor) -> Tensor:
        """Log-probability in nats: parameters `(B, classes, T)`, symbols `(B, T)` -> `(B, T)`."""
        return -functional.cross_entropy(parameters, symbols, reduction="none")

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable symbol: `(B, classes, T)` -> `(B, T)`."""
        return parameters.argmax(dim=1)

    def sample(self, parameters: Tensor, uniforms: Tensor, options: SamplingOptions) -> Tensor:
        """One symbol per row: parameters `(B, classes)`, uniforms `(B,)` in [0, 1) -> `(B,)`."""
        return sample_classes(parameters, uniforms, options)
