"""The network and all that it is made of: layers, conditioning, distributions, features, the model file."""

from wavenet.network.conditioning import Conditioning, ConditioningConfig
from wavenet.network.config import WaveNetConfig
from wavenet.network.conv import CausalConv1d
from wavenet.network.distributions import (
    Categorical,
    Distribution,
    GaussianMixture,
    LogisticMixture,
    Mixture,
    Prediction,
)
from wavenet.network.embedding import AmplitudeEmbedding
from wavenet.network.features import LogMel, LogMelConfig, read_features
from wavenet.network.model import ResidualBlock, State, WaveNet, check_symbols
from wavenet.network.model_file import load_tensors, read_model_file, write_model_file
from wavenet.network.prediction import (
    QUIETEST,
    FeaturePredictor,
    PastPredictor,
    PredictionConfig,
    Predictor,
    levinson,
    predict,
)
from wavenet.network.quantize import check_classes, compand, decode_mu_law, encode_mu_law, expand, silence_class
from wavenet.network.receptive_field import (
    count_paths,
    describe_reach,
    describe_sight,
    layer_table,
    measure_reach,
    seen_lags,
    visible_lags,
)
from wavenet.network.sampling import SamplingOptions, choose
from wavenet.network.upsample import UPSAMPLERS

__all__ = [
    "QUIETEST",
    "UPSAMPLERS",
    "AmplitudeEmbedding",
    "Categorical",
    "CausalConv1d",
    "Conditioning",
    "ConditioningConfig",
    "Distribution",
    "FeaturePredictor",
    "GaussianMixture",
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
    "WaveNet",
    "WaveNetConfig",
    "check_classes",
    "check_symbols",
    "choose",
    "compand",
    "count_paths",
    "decode_mu_law",
    "describe_reach",
    "describe_sight",
    "encode_mu_law",
    "expand",
    "layer_table",
    "levinson",
    "load_tensors",
    "measure_reach",
    "predict",
    "read_features",
    "read_model_file",
    "seen_lags",
    "silence_class",
    "visible_lags",
    "write_model_file",
]
