"""Generate audio from a folder that `wavenet export` wrote, with ONNX Runtime and NumPy alone."""

import argparse
import json
import wave
from pathlib import Path
from statistics import NormalDist

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("output", help="WAV file to write")
parser.add_argument("--seconds", type=float, default=1.0, help="if the model has no features")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--speaker", help="if the model knows several")
parser.add_argument("--features", help="if the model has them: a .npy file of log-mel features (bins, frames)")
options = parser.parse_args()
if not 0 < options.seconds < 3600 or options.seed < 0:
    parser.error(f"--seconds is {options.seconds:g}, --seed {options.seed}; expected over 0, below 3600; 0 or more")

about = json.loads((options.folder / "model.json").read_text())
settings = SessionOptions()
settings.intra_op_num_threads = 1  # a step is too small to share
networks = {name: InferenceSession(options.folder / f"{name}.onnx", settings) for name in about["networks"]}
rate, distribution, features = about["sample_rate"], about["distribution"], about["features"]
speakers = about["speakers"]
if speakers and options.speaker not in speakers:
    parser.error(f"--speaker is {options.speaker}; expected one of {', '.join(speakers)}")
if options.speaker and not speakers:
    parser.error("--speaker goes with a model that knows speakers by name, and this one knows none")
if bool(features) != bool(options.features):
    parser.error("--features goes with a model that has features, and this one has " + ("them" if features else "none"))
inputs = [tensor["name"] for network in about["networks"].values() for tensor in network["inputs"]]
if not speakers and "speaker" in inputs:
    parser.error("its speakers are vectors, of which this program knows none")
speaker = speakers.index(options.speaker) if speakers else 0


def run(name, known):
    """Give a network what it takes of `known`, by name; gives its outputs by name."""
    takes, gives = ([tensor["name"] for tensor in about["networks"][name][side]] for side in ("inputs", "outputs"))
    return dict(zip(gives, networks[name].run(gives, {each: known[each] for each in takes}), strict=True))


def draw(parameters, uniform):
    """The next symbol: a class, or a component's quantile at what is left of the uniform."""
    weights, *mixture = parameters[None] if distribution["kind"] == "categorical" else np.split(parameters, 3)
    shares = np.exp(np.float64(weights) - weights.max())
    ends = shares.cumsum()
    chosen = ends.searchsorted(ends[-1] * uniform, side="right")
    if not mixture:
        return chosen
    (mean, scale), half = np.float64(mixture)[:, chosen], distribution["levels"] // 2
    left = np.clip(1 - (ends[chosen] - ends[-1] * uniform) / shares[chosen], 2**-20, 1 - 2**-20)
    quantile = NormalDist().inv_cdf(left) if "gaussian" in distribution["kind"] else np.log(left / (1 - left))
    return np.clip(np.round((mean + np.exp(scale) * quantile) * half) + half, 0, 2 * half - 1)


known = {name: rows[[speaker]] for name, rows in np.load(options.folder / "initial.npz").items()}
known |= {"symbols": np.array([about["silence"]]), "speaker": np.array([speaker])}
samples, symbols, ahead = round(options.seconds * rate), [], {}
if features:
    hop, before, after = features["hop"], features["frames_before"], features["frames_after"]
    spoken = np.load(options.features)
    samples, first = spoken.shape[1] * hop, about["start"] // hop - before
    frames = np.pad(spoken, ((0, 0), (-first, after)), constant_values=features["silence"]).astype(np.float32)
uniforms = np.random.default_rng(options.seed).random(samples, dtype=np.float32)
for time in range(about["start"], samples):
    if features and time % hop == 0:
        known["frames"] = frames[None, :, time // hop - before - first : time // hop + after + 1 - first]
        ahead |= run("condition", known)
    if "predict" in networks and time % about["block"] == 0:
        ahead |= run("predict", known)
    outputs = run("step", known | {name: rows[:, time % rows.shape[1]] for name, rows in ahead.items()})
    known |= {name.removeprefix("new_"): value for name, value in outputs.items()}
    if time >= 0:
        symbols.append(draw(outputs["parameters"][0], uniforms[time]))
        known["symbols"] = np.array([symbols[-1]], dtype=np.int64)

levels = distribution.get("levels", distribution.get("classes"))
audio = np.array(symbols) / (levels // 2) - 1
if distribution["kind"] == "categorical":  # µ-law
    companded = np.array(symbols) / (levels - 1) * 2 - 1
    audio = np.sign(companded) * np.expm1(np.abs(companded) * np.log(levels)) / (levels - 1)
for time in range(1, samples):
    audio[time] += about["pre_emphasis"] * audio[time - 1]
with wave.open(options.output, "wb") as file:
    file.setparams((1, 2, rate, samples, "NONE", ""))
    file.writeframes(np.clip(np.round(audio * 32768), -32768, 32767).astype("<i2").tobytes())
