"""Fetch the Asterisk voice prompts and decode them: a folder of FLAC files with their texts, by voice.

    python recipes/prompts/fetch.py data/prompts-audio

Needs Debian or Ubuntu (`apt-get download`, `dpkg-deb`) and `pip install 'wavenet-toolkit[prompts]'`. Packages
already lying in the folder are not fetched again. Left out: clips under half a second, tones and silences.
"""

import argparse
import gzip
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import G722
import numpy as np
import soundfile

SAMPLE_RATE = 16000
VERSION = "1.6.1-1"
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
SHA256 = {
    "asterisk-core-sounds-en": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "asterisk-core-sounds-en-g722": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "asterisk-core-sounds-es": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "asterisk-core-sounds-es-g722": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "asterisk-core-sounds-fr": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "asterisk-core-sounds-fr-g722": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    "asterisk-core-sounds-it": "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    "asterisk-core-sounds-it-g722": "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    "asterisk-core-sounds-ru": "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
    "asterisk-core-sounds-ru-g722": "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
}
NOT_SPEECH = re.compile(r"silence/|beep|[a-z]+-2tone$|confbridge-(join|leave)$|tt-monkeys$")


def fetch(package: str, folder: Path) -> Path:
    """The package file, fetched if it is not there, with its checksum checked."""
    file = folder / f"{package}_{VERSION}_all.deb"
    if not file.exists():
        subprocess.run(["apt-get", "download", "--quiet", f"{package}={VERSION}"], cwd=folder, check=True)
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256[package]:
        sys.exit(f"{file} does not have the expected checksum; remove it and try again")
    return file


def read_texts(file: Path) -> dict[str, str]:
    """Clip name -> text, from lines of `name: text`."""
    lines = gzip.decompress(file.read_bytes()).decode("utf-8-sig").splitlines()
    matches = (re.match(r"\s*([^;:\s][^:]*?)\s*:\s*(.*\S)", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def decode_voice(voice: str, packages: Path, destination: Path) -> None:
    """Unpack the two packages of a voice and write its clips below `destination/voice`."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for package in (f"asterisk-core-sounds-{voice}", f"asterisk-core-sounds-{voice}-g722"):
            subprocess.run(["dpkg-deb", "-x", fetch(package, packages), root], check=True)
        documents = root / "usr/share/doc" / f"asterisk-core-sounds-{voice}"
        texts = read_texts(documents / f"core-sounds-{voice}.txt.gz")
        sounds = root / "usr/share/asterisk/sounds" / VOICES[voice]
        clips = samples = 0
        for path in sorted(sounds.rglob("*.g722")):
            clip = path.relative_to(sounds).with_suffix("").as_posix()
            pcm = np.asarray(G722.G722(SAMPLE_RATE, 64000).decode(path.read_bytes()), dtype=np.int16)
            if len(pcm) < SAMPLE_RATE // 2 or NOT_SPEECH.match(clip):
                continue
            target = destination / voice / f"{clip}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(target, pcm, SAMPLE_RATE)
            if clip in texts:
                target.with_suffix(".txt").write_text(texts[clip] + "\n", "utf-8")
            clips, samples = clips + 1, samples + len(pcm)
    print(f"{voice}: {clips} clips, {samples / SAMPLE_RATE / 60:.1f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch and decode the Asterisk voice prompts.")
    parser.add_argument("destination", type=Path, help="folder for the clips; packages go to FOLDER-packages")
    arguments = parser.parse_args()
    packages = arguments.destination.with_name(arguments.destination.name + "-packages")
    packages.mkdir(parents=True, exist_ok=True)
    for voice in VOICES:
        decode_voice(voice, packages, arguments.destination)


if __name__ == "__main__":
    main()
