"""Print what a speech recogniser hears in a WAV file: a command for `wavenet copy --recogniser`, for English.

    python recipes/prompts/recognise.py speech.wav

Needs `pip install pocketsphinx`, an old, small recogniser: compare the systems' word errors with those of the
originals, not with zero.
"""

import argparse
from pathlib import Path

import numpy as np
from pocketsphinx import Decoder

from wavenet import read_audio
from wavenet.cli.errors import errors_in_one_line
from wavenet.data import resample, to_int16


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what a speech recogniser hears in a WAV file.")
    parser.add_argument("recording", type=Path)
    waveform, rate = read_audio(parser.parse_args().recording)
    silence = np.zeros(3200, np.int16)
    samples = np.concatenate([silence, to_int16(resample(waveform, rate, 16000)).numpy(), silence])
    decoder = Decoder(samprate=16000, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    print("" if hypothesis is None else hypothesis.hypstr)


if __name__ == "__main__":
    with errors_in_one_line("recognise.py"):
        main()
