"""How the embedded speech was chosen: whole English prompts of 3 to 12 seconds, in the order of a hash, to 5 minutes.

    python samples/speech/choose.py data/prompts-audio samples/speech

The first argument is what recipes/prompts/fetch.py wrote.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import soundfile

LIMIT_SECONDS = 285


def main() -> None:
    source, destination = map(Path, sys.argv[1:])
    clips = sorted((source / "en").rglob("*.flac"), key=lambda path: hashlib.sha256(path.stem.encode()).digest())
    total = 0.0
    for path in clips:
        seconds = soundfile.info(path).duration
        if not (3 <= seconds <= 12 and path.with_suffix(".txt").exists()) or total + seconds > LIMIT_SECONDS:
            continue
        total += seconds
        target = destination / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".flac", ".txt"):
            shutil.copyfile(path.with_suffix(suffix), target.with_suffix(suffix))
    print(f"{total / 60:.2f} minutes")


if __name__ == "__main__":
    main()
