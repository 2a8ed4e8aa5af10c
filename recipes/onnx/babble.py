"""The least program: a model of classes that is told nothing. Usage: babble.py FOLDER OUTPUT.wav SECONDS"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, SessionOptions

if len(sys.argv) != 4:
    sys.exit(__doc__)
folder, output, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
about = json.loads((folder / "model.json").read_text())
rate, classes, symbol = about["sample_rate"], about["distribution"]["classes"], about["silence"]
settings = SessionOptions()
settings.intra_op_num_threads = 1  # a step is too small to share
step = InferenceSession(folder / "step.onnx", settings)
queues, symbols = dict(np.load(folder / "initial.npz")), []
for uniform in np.random.default_rng(0).random(round(seconds * rate), dtype=np.float32):
    logits, *rows = step.run(None, {"symbols": np.array([symbol]), **queues})
    queues = dict(zip(queues, rows, strict=True))  # they come out in the order in which they stand there
    ends = np.exp(np.float64(logits[0]) - logits.max()).cumsum()
    symbol = ends.searchsorted(ends[-1] * uniform, side="right")
    symbols.append(symbol)
companded = np.array(symbols) / (classes - 1) * 2 - 1
audio = np.sign(companded) * np.expm1(np.abs(companded) * np.log(classes)) / (classes - 1)
with wave.open(output, "wb") as file:
    file.setparams((1, 2, rate, len(audio), "NONE", ""))
    file.writeframes(np.clip(np.round(audio * 32768), -32768, 32767).astype("<i2").tobytes())
