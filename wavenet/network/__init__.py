"""The network and its parts: layers, conditioning, features, distributions, and the model file."""

from wavenet.network.acoustic import AcousticModel, TimedLabelsConfig
from wavenet.network.alignment import Alignment
from wavenet.network.array_files import read_array
from wavenet.network.block import BlockFactory, ResidualBlock
from wavenet.network.conditioning import ClipLabels, Conditioner, Conditioning, ConditioningConfig, check_labels
from wavenet.network.config import KINDS, WaveNetConfig
from wavenet.network.conv import CausalConv1d
from wavenet.network.cost import multiply_adds
from wavenet.network.distributions import Categorical, Distribution, Prediction, check_symbols
from wavenet.network.embedding import AmplitudeEmbedding
from wavenet.network.feature_kinds import FeatureStatistics, foreign_features
from wavenet.network.features import LogMel, LogMelConfig, read_features
from wavenet.network.mixtures import GaussianMixture, LogisticMixture, Mixture
from wavenet.network.model import State, WaveNet
from wavenet.network.parts import as_given
from wavenet.network.prediction import (
    QUIETEST,
    FeaturePredictor,
    PastPredictor,
    PredictionConfig,
    Predictor,
    input_signals,
)
from wavenet.network.quantize import (
    check_level,
    check_waveform,
    compand,
    decode_mu_law,
    encode_mu_law,
    expand,
    full_precision,
    silence_class,
)
from wavenet.network.receptive_field import (
    count_paths,
    describe_sight,
    layer_table,
    measure_reach,
    seen_lags,
)
from wavenet.network.sampling import SamplingOptions
from wavenet.network.settings import STRICT, plain_numbers, whole_number
from wavenet.network.timed_labels import TIMED_ROWS, TimedLabel, check_timed_labels, cut_timed_labels, timed_frames
from wavenet.network.tracks import Tracks
from wavenet.network.upsample import UPSAMPLERS, InterpolatingUpsampler, TransposedUpsampler

__all__ = [
    "KINDS",
    "QUIETEST",
    "STRICT",
    "TIMED_ROWS",
    "UPSAMPLERS",
    "AcousticModel",
    "Alignment",
    "AmplitudeEmbedding",
    "BlockFactory",
    "Categorical",
    "CausalConv1d",
    "ClipLabels",
    "Conditioner",
    "Conditioning",
    "ConditioningConfig",
    "Distribution",
    "FeaturePredictor",
    "FeatureStatistics",
    "GaussianMixture",
    "InterpolatingUpsampler",
    "LogMel",
    "LogMelConfig",
    "LogisticMixture",
    "Mixture",
    "PastPredictor",
    "Prediction",
    "PredictionConfig",
    "Predictor",
    "ResidualBlock",
    "SamplingOptions",
    "State",
    "TimedLabel",
    "TimedLabelsConfig",
    "Tracks",
    "TransposedUpsampler",
    "WaveNet",
    "WaveNetConfig",
    "as_given",
    "check_labels",
    "check_level",
    "check_symbols",
    "check_timed_labels",
    "check_waveform",
    "compand",
    "count_paths",
    "cut_timed_labels",
    "decode_mu_law",
    "describe_sight",
    "encode_mu_law",
    "expand",
    "foreign_features",
    "full_precision",
    "input_signals",
    "layer_table",
    "measure_reach",
    "multiply_adds",
    "plain_numbers",
    "read_array",
    "read_features",
    "seen_lags",
    "silence_class",
    "timed_frames",
    "whole_number",
]
