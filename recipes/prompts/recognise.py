"""Word error rate of a speech recogniser on what `wavenet copy --audio FOLDER` wrote, English clips only.

    python recipes/prompts/recognise.py FOLDER data/prompts

Needs `pip install pocketsphinx jiwer`. pocketsphinx is an old, small recogniser: compare the systems' figures with that
of the originals, not with zero.
"""

import argparse
import re
from pathlib import Path

import jiwer
import numpy as np
import soundfile
from pocketsphinx import Decoder

from wavenet.data import PreparedDataset


def recognise(path: Path) -> str:
    decoder = Decoder(samprate=16000, loglevel="FATAL")
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != 16000:
        raise SystemExit(f"{path} has {rate} Hz; expected 16000")
    padded = np.concatenate([np.zeros(3200, np.int16), samples, np.zeros(3200, np.int16)])
    decoder.start_utt()
    decoder.process_raw(padded.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else hypothesis.hypstr


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("dataset")
    arguments = parser.parse_args()
    texts = {
        clip.name: words(re.sub(r"\[.*?\]", "", clip.text or ""))
        for clip in PreparedDataset(arguments.dataset).clips
        if clip.speaker == "en"
    }
    for system in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        found = (path.relative_to(system).with_suffix("").as_posix() for path in sorted(system.rglob("*.wav")))
        names = [name for name in found if texts.get(name)]
        references = [texts[name] for name in names]
        heard = [words(recognise(system / f"{name}.wav")) for name in names]
        total = sum(len(reference.split()) for reference in references)
        print(f"{system.name:12} {jiwer.wer(references, heard):.3f} of {total} words, {len(names)} clips", flush=True)


if __name__ == "__main__":
    main()
