"""Generate audio from a folder that `wavenet export` wrote, with ONNX Runtime and NumPy alone."""

import argparse
import io
import json
import os
import sys
import wave
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.lib.format import open_memmap
from onnxruntime import InferenceSession, SessionOptions

FORMAT = "onnx export, version 1"


class WrongOptionError(ValueError):
    """What the user asked for does not go with the model."""


class Export:
    """What the folder holds: `about` the model, its networks, and the state after endless silence."""

    def __init__(self, folder):
        settings = SessionOptions()
        settings.intra_op_num_threads = 1  # a step is too small to share
        self.about = json.loads((folder / "model.json").read_text("utf-8"))
        if self.about["format"] != FORMAT:
            raise ValueError(f"its format is {self.about['format']!r}; expected {FORMAT!r}")
        names = self.about["networks"]
        self.networks = {name: InferenceSession(folder / f"{name}.onnx", settings) for name in names}
        with open(folder / "initial.npz", "rb") as file:
            self.initial = dict(np.load(file))

    def run(self, name, known):
        """Give a network what it takes of `known`, by name; gives its outputs by name."""
        tensors = self.about["networks"][name]
        takes, gives = ([tensor["name"] for tensor in tensors[side]] for side in ("inputs", "outputs"))
        return dict(zip(gives, self.networks[name].run(gives, {each: known[each] for each in takes}), strict=True))

    def speaker(self, name):
        """The number of a speaker; 0 where the model knows none by name."""
        speakers = self.about["speakers"]
        if speakers and name not in speakers:
            raise WrongOptionError(f"--speaker is {name or 'not given'}; expected one of {', '.join(speakers)}")
        if name and not speakers:
            raise WrongOptionError("--speaker goes with a model that knows speakers by name, and this one knows none")
        inputs = [tensor["name"] for network in self.about["networks"].values() for tensor in network["inputs"]]
        if not speakers and "speaker" in inputs:
            raise WrongOptionError("its speakers are vectors, of which this program knows none")
        return speakers.index(name) if speakers else 0

    def features(self, path):
        """Log-mel features `(bins, frames)`; `None` where the model has none."""
        features = self.about["features"]
        if bool(features) != bool(path):
            has = "them" if features else "none"
            raise WrongOptionError(f"--features goes with a model that has features, and this one has {has}")
        if not path:
            return None
        try:
            spoken = open_memmap(path, mode="r")  # which looks at what the header promises before it is believed
        except Exception as error:  # of many kinds, as the header is an expression of Python
            raise WrongOptionError(f"{path} is not a feature file ({error}); expected .npy") from error
        if spoken.dtype.kind != "f":
            raise WrongOptionError(f"{path} holds no array of floating-point numbers; expected log-mel features")
        if spoken.ndim != 2 or len(spoken) != features["bins"] or spoken.shape[1] == 0:
            raise WrongOptionError(f"{path}: its shape is {spoken.shape}; the model needs ({features['bins']}, frames)")
        if not (np.isfinite(spoken) & (spoken > -70) & (spoken < 25)).all():
            raise WrongOptionError(
                f"{path}: expected natural logs of mel power, about -14 to 12; some values are far from that"
            )
        return np.maximum(spoken, features["silence"])


def draw(distribution, parameters, uniform):
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


def generate(export, speaker, spoken, uniforms):
    """A symbol for each uniform, told of a speaker's number and of features `(bins, frames)`, or `None`."""
    about, features = export.about, export.about["features"]
    known = {name: rows[[speaker]] for name, rows in export.initial.items()}
    known |= {"symbols": np.array([about["silence"]]), "speaker": np.array([speaker])}
    symbols, ahead = [], {}
    if features:
        hop, before, after = features["hop"], features["frames_before"], features["frames_after"]
        first = about["start"] // hop - before
        frames = np.pad(spoken, ((0, 0), (-first, after)), constant_values=features["silence"]).astype(np.float32)
    for time in range(about["start"], len(uniforms)):
        if features and time % hop == 0:
            known["frames"] = frames[None, :, time // hop - before - first : time // hop + after + 1 - first]
            ahead |= export.run("condition", known)
        if "predict" in export.networks and time % about["block"] == 0:
            ahead |= export.run("predict", known)
        outputs = export.run("step", known | {name: rows[:, time % rows.shape[1]] for name, rows in ahead.items()})
        known |= {name.removeprefix("new_"): value for name, value in outputs.items()}
        if time >= 0:
            symbols.append(draw(about["distribution"], outputs["parameters"][0], uniforms[time]))
            known["symbols"] = np.array([symbols[-1]], dtype=np.int64)
    return np.array(symbols)


def decode(about, symbols):
    """Symbols to audio in [-1, 1]."""
    levels = about["distribution"].get("levels", about["distribution"].get("classes"))
    audio = symbols / (levels // 2) - 1
    if about["distribution"]["kind"] == "categorical":  # µ-law
        companded = symbols / (levels - 1) * 2 - 1
        audio = np.sign(companded) * np.expm1(np.abs(companded) * np.log(levels)) / (levels - 1)
    for time in range(1, len(audio)):
        audio[time] += about["pre_emphasis"] * audio[time - 1]
    return audio


def encode(audio, rate):
    """Audio as the bytes of a WAV file of 16 bits."""
    encoded = io.BytesIO()
    with wave.open(encoded, "wb") as file:
        file.setparams((1, 2, rate, len(audio), "NONE", ""))
        file.writeframes(np.clip(np.round(audio * 32768), -32768, 32767).astype("<i2").tobytes())
    return encoded.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path, help="WAV file to write")
    parser.add_argument("--seconds", type=float, default=1.0, help="if the model has no features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speaker", help="if the model knows several")
    parser.add_argument("--features", help="if the model has them: a .npy file of log-mel features (bins, frames)")
    parser.add_argument("--force", action="store_true", help="replace the WAV file that is there")
    options = parser.parse_args()
    if not 0 < options.seconds < 3600 or options.seed < 0:
        parser.error(f"--seconds is {options.seconds:g}, --seed {options.seed}; expected over 0, below 3600; 0 or more")
    there = os.path.lexists(options.output)
    if (there and not options.output.is_file()) or not options.output.parent.is_dir():
        parser.error(f"{options.output} cannot be written; expected a file in a folder that is there")
    if there and not options.force:
        parser.error(f"{options.output} exists; choose another path or pass --force to replace it")
    try:
        export = Export(options.folder)
        speaker, spoken = export.speaker(options.speaker), export.features(options.features)
        rate, features = export.about["sample_rate"], export.about["features"]
        samples = max(1, round(options.seconds * rate)) if spoken is None else spoken.shape[1] * features["hop"]
        uniforms = np.random.default_rng(options.seed).random(samples, dtype=np.float32)
        encoded = encode(decode(export.about, generate(export, speaker, spoken, uniforms)), rate)
    except WrongOptionError as error:
        parser.error(" ".join(str(error).split()))
    except Exception as error:  # the user's part was looked at: whatever else fails is the folder's
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        parser.error(f"{options.folder} is no export, or not a whole one ({reason}); see `wavenet export`")
    partial = options.output.with_name(f".{os.getpid()}.partial")  # short, and its own
    try:
        partial.write_bytes(encoded)
        partial.replace(options.output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        parser.error(f"{options.output} cannot be written ({error.strerror}); choose another place")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
