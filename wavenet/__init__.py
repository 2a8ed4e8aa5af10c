"""WaveNet: raw-audio generation with causal dilated convolutions (van den Oord et al. 2016).

>>> config = WaveNetConfig(cycles=2, layers_per_cycle=5, residual_channels=32)
>>> config.receptive_field
63
>>> model = WaveNet(config)
>>> generate(model, num_samples=80, seed=0).shape
torch.Size([1, 80])

Shapes: `(B, C, T)` is batch, channels, samples; waveforms are `(B, T)`, float32 in [-1, 1]; `F` counts frames.
"""

from wavenet.generation.offline import generate
from wavenet.generation.streaming import stream
from wavenet.network.conditioning import ConditioningConfig
from wavenet.network.config import WaveNetConfig
from wavenet.network.conv import CausalConv1d
from wavenet.network.distributions import Categorical, GaussianMixture, LogisticMixture
from wavenet.network.features import LogMel, LogMelConfig
from wavenet.network.model import WaveNet
from wavenet.network.prediction import PredictionConfig
from wavenet.network.quantize import decode_mu_law, encode_mu_law
from wavenet.network.sampling import SamplingOptions

__all__ = [
    "Categorical",
    "CausalConv1d",
    "ConditioningConfig",
    "GaussianMixture",
    "LogMel",
    "LogMelConfig",
    "LogisticMixture",
    "PredictionConfig",
    "SamplingOptions",
    "WaveNet",
    "WaveNetConfig",
    "decode_mu_law",
    "encode_mu_law",
    "generate",
    "stream",
]
