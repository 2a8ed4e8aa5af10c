"""What the sdist and the wheel hold; and, from `make wheel`, the wheel where there is no compiler and no source."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
import soundfile
from packaging.requirements import Requirement

from wavenet import shipped_models

ROOT = Path(__file__).parent.parent
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["scikit-build"]
FOLDER = os.environ.get("WAVENET_DIST")
built = pytest.mark.skipif(FOLDER is None, reason="`make wheel` builds an sdist and a wheel, and tries them")
NOT_IN_SDIST = {".ci/run", ".clang-format", ".gitignore"}


def test_the_wheel_takes_the_shipped_models() -> None:
    """Without a build: from what the build is told."""
    assert BUILD["wheel"]["packages"] == {"wavenet": "wavenet", "wavenet/models": "samples/models"}
    folder = ROOT / "samples" / "models"
    assert {model.path for model in shipped_models().values()} == set(folder.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 30e6


def test_the_sdist_takes_what_is_there() -> None:
    for pattern in BUILD["sdist"]["include"]:
        assert list(ROOT.glob(pattern.strip("/"))), f"{pattern} is not there"


@built
def test_the_sdist_holds_the_repository_and_nothing_else() -> None:
    (path,) = Path(FOLDER).glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert names - {"PKG-INFO"} == set(tracked.splitlines()) - NOT_IN_SDIST


@built
def test_the_wheel_is_manylinux_and_holds_each_instruction_set_and_no_source() -> None:
    (path,) = Path(FOLDER).glob("*.whl")
    assert "manylinux" in path.name
    names = zipfile.ZipFile(path).namelist()
    assert sum("/_native_" in name for name in names) == (5 if "x86_64" in path.name else 1)
    assert all(f"wavenet/models/{name}.safetensors" in names for name in shipped_models())
    strange = [name for name in names if not name.startswith(("wavenet/", "wavenet_toolkit-"))]
    assert not strange
    assert not [name for name in names if name.endswith((".cpp", ".h", ".pyc"))]


def required(installed: Distribution, extras: frozenset[str] = frozenset()) -> set[str]:
    """The names of all that an installed distribution requires, directly or not, without its extras."""
    names = set()
    for text in installed.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in {"", *extras}):
            names |= {requirement.name} | required(distribution(requirement.name), frozenset(requirement.extras))
    return names


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of an environment of its own: it has the wheel, and links to what the wheel requires; no more."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (wheel,) = Path(FOLDER).glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (toolkit,) = distributions(name="wavenet-toolkit", path=[str(site)])
    for needed in map(distribution, required(toolkit)):
        for top in {file.parts[0] for file in needed.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(needed.locate_file(top)))
    subprocess.run([*pip, "check"], check=True)
    assert shutil.which("g++", path=str(folder / "bin")) is shutil.which("cc", path=str(folder / "bin")) is None

    def program(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [folder / "bin" / name, *arguments],
            env={"PATH": str(folder / "bin"), "HOME": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert str(site) in program("python", "-c", "import wavenet; print(wavenet.__file__)")
    return program


@built
def test_the_installed_wheel_generates_without_a_compiler(run: Callable[..., str], tmp_path: Path) -> None:
    assert run("python", "-m", "wavenet", "--version").startswith("wavenet ")
    assert "vocoder: " in run("wavenet", "models")
    waveform, rate = soundfile.read(ROOT / "samples" / "speech" / "en" / "demo-thanks.flac", stop=16000)
    soundfile.write(tmp_path / "speech.wav", waveform, rate)
    out = tmp_path / "out.wav"
    said = run("wavenet", "generate", "vocoder", "-o", str(out), "--features-from", str(tmp_path / "speech.wav"))
    assert "native engine" in said
    assert soundfile.info(out).frames == len(waveform)
