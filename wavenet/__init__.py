"""WaveNet: raw-audio generation with causal dilated convolutions (van den Oord et al. 2016).

>>> config = WaveNetConfig(cycles=2, layers_per_cycle=5, residual_channels=32)
>>> config.receptive_field
63
>>> model = WaveNet(config)
>>> generate(model, num_samples=80, seed=0).shape
torch.Size([1, 80])

Shapes: `(B, C, T)` is batch, channels, samples; waveforms are `(B, T)`, float32 in [-1, 1]; `F` counts frames.
"""

from wavenet.conditioning import ConditioningConfig
from wavenet.config import WaveNetConfig
from wavenet.conv import CausalConv1d
from wavenet.distributions import Categorical, GaussianMixture, LogisticMixture
from wavenet.features import LogMel, LogMelConfig
from wavenet.generation import generate
from wavenet.model import WaveNet
from wavenet.prediction import PredictionConfig
from wavenet.quantize import decode_mu_law, encode_mu_law
from wavenet.sampling import SamplingOptions
from wavenet.streaming import stream

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
