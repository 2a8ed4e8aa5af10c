"""ONNX exports, run in onnxruntime and compared with torch; and `torch.export` of a model."""

import contextlib
import copy
import errno
import io
import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.export import Dim

from tests.conftest import KINDS, conditioning_of, kind_name, model_of_kind, small_model
from wavenet import WaveNet
from wavenet.cli import main
from wavenet.data import to_int16
from wavenet.engines import IncrementalEngine
from wavenet.export import export_onnx
from wavenet.export.networks import initial_state, networks, start
from wavenet.export.onnx import CLOSE, largest_differences
from wavenet.export.onnx import _write as write
from wavenet.export.operations import exportable
from wavenet.network import Conditioning, GaussianMixture, LogisticMixture, SamplingOptions

ROOT = Path(__file__).parent.parent
Named = dict[str, Tensor]


def by_turns(
    model: WaveNet, run: Callable[[str, Named], Named], state: Named, symbols: Tensor, conditioning: Conditioning
) -> Tensor:
    """Parameters of each of the symbols `(B, T)` by the networks of an export, sample by sample: `(B, parameters, T)`.

    `run` runs the network of a name; it is what tells torch from onnxruntime.
    """
    config, names = model.config, networks(model).keys()
    known, ahead, parameters = dict(state), {}, []
    known["symbols"] = torch.full(symbols.shape[:1], model.distribution.silence)
    if conditioning.labels is not None:
        known["speaker"] = conditioning.labels
    for time in range(start(model), symbols.shape[1]):
        if config.features is not None and time % config.features.hop == 0:
            frame, reach = time // config.features.hop, model.alignment.reach
            known["frames"] = conditioning.frames(frame - reach, frame + reach + 2)
            ahead |= run("condition", known)
        if "predict" in names and time % model.predictor.block == 0:
            ahead |= run("predict", known)
        outputs = run("step", known | {name: rows[:, time % rows.shape[1]] for name, rows in ahead.items()})
        known |= {name.removeprefix("new_"): value for name, value in outputs.items()}
        if time >= 0:
            parameters.append(outputs["parameters"])
            known["symbols"] = symbols[:, time]
    return torch.stack(parameters, dim=2)


def by_the_model(model: WaveNet, symbols: Tensor, conditioning: Conditioning) -> Tensor:
    """The same in one pass of the model."""
    silence = torch.full_like(symbols[:, :1], model.distribution.silence)
    state = model.initial_state(len(symbols), conditioning)
    return model.advance(torch.cat([silence, symbols[:, :-1]], dim=1), state, conditioning)[0]


def noise(model: WaveNet, batch: int, length: int) -> Tensor:
    waveform = torch.randn(batch, length, generator=torch.Generator().manual_seed(length)) / 10
    return model.distribution.encode(waveform)


@pytest.mark.parametrize("kind", KINDS, ids=kind_name)
@pytest.mark.parametrize("stand_ins", [False, True], ids=["its own operations", "stand-ins"])
@torch.no_grad()
def test_the_networks_of_every_kind_of_model_give_what_the_model_gives(
    kind: tuple[object, ...], stand_ins: bool
) -> None:
    """In float64, where the stand-ins for what ONNX lacks are told from rounding."""
    model = model_of_kind(kind)
    conditioning, symbols = conditioning_of(model), noise(model, 2, 30)
    parts = networks(exportable(model) if stand_ins else model)
    rows = [0, 0] if conditioning.labels is None else conditioning.labels
    state = {name: tensor[rows] for name, tensor in initial_state(model).items()}

    def run(name: str, known: Named) -> Named:
        return parts[name]({each: known[each] for each in parts[name].shapes})

    found = by_turns(model, run, state, symbols, conditioning)
    torch.testing.assert_close(found, by_the_model(model, symbols, conditioning), atol=1e-9, rtol=1e-9)

    longer = noise(model, 2, model.context + 9)
    named = {"symbols": longer, "speaker": conditioning.labels, "frames": conditioning.features}
    found = parts["sequence"]({name: named[name] for name in parts["sequence"].shapes})["parameters"]
    torch.testing.assert_close(found, model(longer, conditioning), atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_a_vector_that_says_who_speaks_reaches_the_queues_before_the_clip_begins() -> None:
    model = small_model(speaker_channels=2)
    symbols, parts = noise(model, 3, 20), networks(model)
    conditioning = model.condition(3, speaker=torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))
    state = {name: tensor.expand(3, *tensor.shape[1:]) for name, tensor in initial_state(model).items()}
    found = by_turns(model, lambda name, known: parts[name](known), state, symbols, conditioning)
    torch.testing.assert_close(found, by_the_model(model, symbols, conditioning))


class Export:
    """A folder with a model's networks as ONNX, and how to run them."""

    def __init__(self, model: WaveNet, folder: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        self.model, self.folder = model, folder
        self.about = json.loads((folder / "model.json").read_text())
        with np.load(folder / "initial.npz") as arrays:
            self.state = {name: torch.from_numpy(array) for name, array in arrays.items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options) for name in self.about["networks"]
        }

    def run(self, name: str, known: Named) -> Named:
        sides = self.about["networks"][name]
        inputs, outputs = ([tensor["name"] for tensor in sides[side]] for side in ("inputs", "outputs"))
        found = self.sessions[name].run(outputs, {each: known[each].numpy() for each in inputs})
        return dict(zip(outputs, map(torch.from_numpy, found), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Export:
    """Classes and nothing else. In float64, so that rounding moves no sample across a boundary."""
    model = small_model(kernel_size=3)
    export_onnx(model, folder / "plain")
    return Export(model, folder / "plain")


@pytest.fixture(scope="module")
def told(folder: Path) -> tuple[Export, str]:
    """Speakers, features and linear prediction from them, by the command; and what it printed.

    In float32: onnxruntime has no convolution in float64.
    """
    model = model_of_kind((GaussianMixture(components=2), True, True, "features", "transposed"), pre_emphasis=0.6)
    model.embedding.weight.data /= 10  # neighbours alike, as training has them
    model.save_pretrained(folder / "told.safetensors")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        arguments = ["export", folder / "told.safetensors", "-o", folder / "told"]
        patch.setattr(sys, "argv", ["wavenet", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    return Export(WaveNet.from_pretrained(folder / "told.safetensors"), folder / "told"), printed.getvalue()


@pytest.mark.parametrize(("batch", "length"), [(1, 15), (1, 16), (2, 40), (5, 1000)])
@torch.no_grad()
def test_sequence_gives_what_the_model_gives(plain: Export, batch: int, length: int) -> None:
    symbols = noise(plain.model, batch, length)
    found = plain.run("sequence", {"symbols": symbols})["parameters"]
    assert found.shape == (batch, 256, length - plain.about["context"] + 1)
    torch.testing.assert_close(found, plain.model(symbols), atol=1e-11, rtol=0)


@pytest.mark.parametrize(("batch", "length", "frames"), [(1, 17, 1), (2, 60, 5), (3, 200, 30), (2, 100, 3)])
@torch.no_grad()
def test_sequence_gives_what_the_model_gives_for_features_of_any_length(
    told: tuple[Export, str], batch: int, length: int, frames: int
) -> None:
    export, _ = told
    symbols = noise(export.model, batch, length)
    features = torch.randn(batch, 5, frames, generator=torch.Generator().manual_seed(0)) - 3
    conditioning = export.model.condition(batch, speaker=["bob", "eve", "ann"][:batch], features=features)
    given = {"symbols": symbols, "speaker": conditioning.labels, "frames": features}
    found = export.run("sequence", given)["parameters"]
    # amplitudes are looked up between 256 rows, where float32 is good for 1e-5 of a row
    torch.testing.assert_close(found, export.model(symbols, conditioning), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_networks_give_by_turns_what_the_model_gives_in_onnxruntime(told: tuple[Export, str]) -> None:
    export, _ = told
    conditioning, symbols = conditioning_of(export.model), noise(export.model, 2, 80)
    state = {name: rows[conditioning.labels] for name, rows in export.state.items()}
    found = by_turns(export.model, export.run, state, symbols, conditioning)
    torch.testing.assert_close(found, by_the_model(export.model, symbols, conditioning), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("upsampler", ["interpolation", "frames", "linear"])
@torch.no_grad()
def test_prediction_from_the_past_and_features_give_what_the_model_gives_in_onnxruntime(
    folder: Path, upsampler: str
) -> None:
    """Two layers, because torch takes seconds to trace a layer. The test in float64 above has three."""
    kind = (LogisticMixture(components=2), True, True, "past", upsampler)
    model_of_kind(kind, dilations=(1, 2)).save_pretrained(folder / f"past-{upsampler}.safetensors")
    model = WaveNet.from_pretrained(folder / f"past-{upsampler}.safetensors")
    export_onnx(model, folder / f"past-{upsampler}")
    export = Export(model, folder / f"past-{upsampler}")
    assert "predict" in export.sessions
    conditioning, symbols = conditioning_of(model), noise(model, 2, 60)
    state = {name: rows[conditioning.labels] for name, rows in export.state.items()}
    found = by_turns(model, export.run, state, symbols, conditioning)
    torch.testing.assert_close(found, by_the_model(model, symbols, conditioning), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["sequence", "step"])
def test_a_network_of_other_weights_is_told_from_the_model(plain: Export, name: str) -> None:
    contents = {path.name: path.read_bytes() for path in plain.folder.glob("*.onnx")}
    assert largest_differences(plain.model, contents)[name] < 1e-9
    other = copy.deepcopy(plain.model)
    with torch.no_grad():
        other.head.bias[0] += 1
    assert largest_differences(other, contents)[name] > CLOSE


def test_an_export_that_differs_is_refused_and_not_written(
    wavenet, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    for difference in (3.0, math.nan):
        monkeypatch.setattr("wavenet.export.onnx.largest_differences", lambda *_, found=difference: {"step": found})
        wavenet("export", model_file, "-o", tmp_path / "x").fails_with(f"step by {difference:.2g}", "nothing was writ")
    assert [path.name for path in tmp_path.iterdir()] == [model_file.name]


def step_classes(export: Export, uniforms: Tensor) -> Tensor:
    """Classes drawn from what `step` gives: `(B, T)` -> `(B, T)`."""
    known = {name: rows.expand(len(uniforms), *rows.shape[1:]) for name, rows in export.state.items()}
    known["symbols"], classes = torch.full((len(uniforms),), export.about["silence"]), []
    for uniform in uniforms.unbind(1):
        outputs = export.run("step", known)
        known = {name.removeprefix("new_"): value for name, value in outputs.items()}
        known["symbols"] = export.model.distribution.sample(outputs["parameters"], uniform, SamplingOptions())
        classes.append(known["symbols"])
    return torch.stack(classes, dim=1)


def test_step_makes_the_same_classes_as_the_incremental_engine_for_a_batch(plain: Export) -> None:
    uniforms = torch.rand(3, 300, generator=torch.Generator().manual_seed(1))
    expected, _ = IncrementalEngine(plain.model, 3).run(uniforms, SamplingOptions())
    assert torch.equal(step_classes(plain, uniforms), expected)


def generate(export: Export, output: Path, *options: object) -> np.ndarray:
    """The samples that the recipe's script makes, in an interpreter that has neither torch nor this package."""
    script = ROOT / "recipes" / "onnx" / "generate.py"
    without = "import runpy, sys; sys.modules |= {'torch': None, 'wavenet': None}; del sys.argv[0]; "
    command = f"{without}runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [sys.executable, "-c", command, script, export.folder, output, *options]
    subprocess.run(list(map(str, arguments)), check=True, cwd=output.parent)
    samples, rate = soundfile.read(output, dtype="int16")
    assert rate == export.about["sample_rate"]
    return samples


def test_the_script_makes_the_same_second_as_the_incremental_engine(plain: Export, tmp_path: Path) -> None:
    samples = generate(plain, tmp_path / "a.wav", "--seconds", 1, "--seed", 7)
    uniforms = torch.from_numpy(np.random.default_rng(7).random((1, 16000), dtype=np.float32))
    classes, _ = IncrementalEngine(plain.model, 1).run(uniforms, SamplingOptions())
    assert np.array_equal(samples, to_int16(plain.model.decode(classes)[0].clamp(-1, 1)).numpy())
    assert len(classes.unique()) > 100, "a test on a stuck signal would prove nothing"
    program = [sys.executable, ROOT / "recipes" / "onnx" / "babble.py", plain.folder, tmp_path / "b.wav", "1"]
    subprocess.run(list(map(str, program)), check=True)
    assert np.array_equal(soundfile.read(tmp_path / "b.wav", dtype="int16")[0], generate(plain, tmp_path / "c.wav"))


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """The last line of what the script says when it ends with status 2."""
    script = str(ROOT / "recipes" / "onnx" / "generate.py")
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(script, run_name="__main__")
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_the_script_says_what_a_model_wants(
    told: tuple[Export, str], plain: Export, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, taken = tmp_path / "x.wav", tmp_path / "taken.wav"
    taken.write_text("kept")
    link = tmp_path / "link.wav"
    link.symlink_to(tmp_path / "nowhere.wav")
    for export, options, message in (
        (told[0], [output], "--speaker is not given; expected one of ann, bob, eve"),
        (told[0], [output, "--speaker", "eve"], "has features, and this one has them"),
        (plain, [output, "--features", "x.npy"], "has features, and this one has none"),
        (plain, [output, "--speaker", "eve"], "this one knows none"),
        (plain, [output, "--seconds", "-1"], "--seconds is -1"),
        (plain, [taken], "taken.wav exists; choose another path or pass --force"),
        (plain, [link], "link.wav cannot be written"),
        (plain, [link, "--force"], "link.wav cannot be written"),
        (plain, ["/dev/full", "--force"], "/dev/full cannot be written"),
        (plain, [tmp_path], "cannot be written; expected a file"),
        (plain, [tmp_path / "none" / "x.wav"], "cannot be written; expected a file in a folder that is there"),
    ):
        assert message in refusal(capsys, monkeypatch, export.folder, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.wav", "taken.wav"]
    assert taken.read_text() == "kept"


def npy(header: str) -> bytes:
    """A NumPy file of that header and nothing behind it."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def test_the_script_refuses_what_are_no_features(
    told: tuple[Export, str], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = np.full((5, 3), np.nan, dtype=np.float32)
    for features, message in (
        (np.zeros((4, 3)), "its shape is (4, 3); the model needs (5, frames)"),
        (np.zeros((5, 0)), "its shape is (5, 0)"),
        (np.zeros((5, 3), dtype=complex), "no array of floating-point numbers"),
        (np.array(["x"]), "no array of floating-point numbers"),
        (nan, "expected natural logs of mel power"),
        (np.full((5, 3), 40.0), "expected natural logs of mel power"),
        (b"", "is not a feature file"),
        (b"\x93NUMPY", "is not a feature file"),
        (b"PK\x03\x04 the beginning of an archive", "is not a feature file"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 'x"), "is not a feature file"),
        (npy(str({"descr": "<f8", "fortran_order": False, "shape": (5, 2**50)})), "is not a feature file"),
    ):
        path = tmp_path / "f.npy"
        path.write_bytes(features) if isinstance(features, bytes) else np.save(path, features)
        arguments = [told[0].folder, tmp_path / "x.wav", "--speaker", "eve", "--features", path]
        assert message in refusal(capsys, monkeypatch, *arguments)
    assert not (tmp_path / "x.wav").exists()


WRONG_ABOUT: list[tuple[str, object]] = [
    ("format", "onnx export, version 2"),
    ("sample_rate", "fast"),
    ("sample_rate", None),
    ("speakers", 7),
    ("start", "now"),
    ("start", None),
    ("silence", None),
    ("pre_emphasis", "x"),
    ("distribution", {}),
    ("networks", {}),
    ("networks", {"step": {"inputs": [{"name": "unknown"}], "outputs": []}}),
]
"""What no export says, things of another kind. (A wrong number cannot be told from a right one.)"""


def about_with(data: bytes, **wrong: object) -> bytes:
    return json.dumps(json.loads(data) | wrong).encode()


def test_an_output_that_cannot_be_written_leaves_nothing(
    plain: Export, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for output in (Path("/proc/x.wav"), tmp_path / f"{'x' * 300}.wav"):
        said = refusal(capsys, monkeypatch, plain.folder, output, "--seconds", "0.01")
        assert f"{output} cannot be written" in said
    assert list(tmp_path.iterdir()) == []


def test_the_longest_of_names_is_written(plain: Export, tmp_path: Path) -> None:
    assert len(generate(plain, tmp_path / f"{'x' * 250}.wav", "--seconds", "0.01")) == 160
    assert len(list(tmp_path.iterdir())) == 1


def test_the_script_refuses_damaged_exports(
    plain: Export, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, damage in (
        ("step.onnx", lambda data: data[: len(data) // 2]),
        ("model.json", lambda data: b"{"),
        ("model.json", lambda data: b"[]"),
        ("initial.npz", lambda data: data[:100]),
        ("initial.npz", None),
        ("model.json", None),
        *(("model.json", partial(about_with, **{key: wrong})) for key, wrong in WRONG_ABOUT),
    ):
        folder = tmp_path / "export"
        shutil.copytree(plain.folder, folder)
        if damage is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(damage((folder / name).read_bytes()))
        line = refusal(capsys, monkeypatch, folder, tmp_path / "x.wav")
        assert "is no export, or not a whole one" in line, name
        shutil.rmtree(folder)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_cannot_be_written_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", source)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match=r"No space left on device.*choose another") as error:
        write(tmp_path / "x", {"step.onnx": b""})
    assert error.value.filename == str(tmp_path / "x")


def test_the_script_speaks_what_features_say(told: tuple[Export, str], tmp_path: Path) -> None:
    export, _ = told
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)) - 3
    np.save(tmp_path / "f.npy", features.numpy())
    samples = generate(export, tmp_path / "a.wav", "--features", tmp_path / "f.npy", "--speaker", "eve")
    uniforms = torch.from_numpy(np.random.default_rng(0).random((1, 48), dtype=np.float32))
    conditioning = export.model.condition(speaker="eve", features=features)
    symbols, _ = IncrementalEngine(export.model, 1, conditioning).run(uniforms, SamplingOptions())
    expected = to_int16(export.model.decode(symbols)[0].clamp(-1, 1)).numpy()
    assert len(samples) == 48
    assert np.abs(samples - expected.astype(int)).max() < 100, "more than rounding to one of 4096 levels, once or twice"


def test_the_command_says_what_it_wrote_and_how_far_that_is_from_torch(told: tuple[Export, str]) -> None:
    export, printed = told
    files = ["sequence.onnx", "step.onnx", "condition.onnx", "initial.npz", "model.json"]
    assert f"wrote {export.folder}: {', '.join(files)} (" in printed
    assert sorted(path.name for path in export.folder.iterdir()) == sorted(files)
    found = re.search(r"largest differences from torch, .*: sequence (\S+), step (\S+), condition (\S+)\n", printed)
    assert max(map(float, found.groups())) < 1e-3


@torch.no_grad()
def test_torch_exports_the_model() -> None:
    model = small_model(kernel_size=3)
    axes = {0: Dim("batch"), 1: Dim("time", min=model.context + 1)}
    program = torch.export.export(model, (noise(model, 2, 40),), dynamic_shapes=(axes,)).module()
    for batch, length in ((1, model.context + 1), (1, 41), (4, 100)):
        symbols = noise(model, batch, length)
        assert torch.equal(program(symbols), model(symbols))


@torch.no_grad()
def test_torch_exports_a_model_that_is_told_something() -> None:
    model = model_of_kind((GaussianMixture(components=2), True, True, "features", "transposed"))
    torch.export.register_dataclass(Conditioning)
    given, other = (noise(model, 2, length)[:, : model.context + 8] for length in (60, 61))
    conditioning = conditioning_of(model)
    program = torch.export.export(model, (given, conditioning)).module()
    for symbols in (given, other):
        torch.testing.assert_close(program(symbols, conditioning), model(symbols, conditioning), atol=1e-12, rtol=0)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    small_model(dilations=(1,)).save_pretrained(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_impossible_exports_are_refused(wavenet, model_file: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    wavenet("export", model_file, "-o", there).fails_with("there exists", "--force")
    wavenet("export", model_file, "-o", model_file).fails_with("is a file; expected a folder")
    wavenet("export", model_file, "-o", tmp_path / "no" / "x").fails_with("no such folder to write x to")
    wavenet("export", ROOT / "README.md", "-o", tmp_path / "x").fails_with("is not a model file")
    wavenet("export", tmp_path / "none", "-o", tmp_path / "x").fails_with("no such model file")
    assert list(there.iterdir()) == []
    (tmp_path / "old" / "model.json").mkdir(parents=True)
    (tmp_path / "old" / "step.onnx").write_text("old")
    wavenet("export", model_file, "-o", tmp_path / "old", "--force").fails_with("model.json is a folder")
    assert (tmp_path / "old" / "step.onnx").read_text() == "old"
    assert not (tmp_path / "x").exists()


def test_missing_packages_are_named(wavenet, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.export.onnx.find_spec", lambda name: None)
    wavenet("export", model_file, "-o", tmp_path / "x").fails_with("onnxscript", "pip install 'wavenet-toolkit[onnx]'")


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    for name in ("step.onnx", "predict.onnx", "mine.txt"):
        (folder / name).write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("wavenet.export.onnx.write_atomically", full_after(1))
        with pytest.raises(OSError, match="full"):
            write(folder, {"sequence.onnx": b"new", "step.onnx": b"new"})
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"step.onnx": b"old", "predict.onnx": b"old", "mine.txt": b"old"}
    write(folder, {"sequence.onnx": b"new", "step.onnx": b"new"})
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    kept = {"predict.onnx": b"old", "mine.txt": b"old"}
    assert found == {"sequence.onnx": b"new", "step.onnx": b"new", **kept}, "what was there was no export"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_an_export_replaces_the_whole_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = json.dumps({"format": "onnx export, version 1"}).encode()
    for name, data in {"model.json": about, "predict.onnx": b"old", "step.onnx": b"old", "mine.txt": b"old"}.items():
        (tmp_path / name).write_bytes(data)
    new, replace, moved = {"sequence.onnx": b"new", "step.onnx": b"new", "model.json": b"{}"}, os.replace, []

    def watched(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path:
            moved.append(Path(target).name)
            assert not (tmp_path / "model.json").exists(), "it is no export while it is a mixture"
        replace(source, target)

    monkeypatch.setattr("os.replace", watched)
    write(tmp_path, new)
    assert moved == ["sequence.onnx", "step.onnx", "model.json"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {**new, "mine.txt": b"old"}


def full_after(files: int) -> Callable[[Path, bytes], None]:
    """A disk that takes so many files."""
    room = iter(range(files))

    def write_atomically(path: Path, data: bytes) -> None:
        if next(room, None) is None:
            raise OSError("the disk is full")
        path.write_bytes(data)

    return write_atomically


def test_without_onnxruntime_nothing_is_checked_and_the_command_says_so(
    wavenet, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavenet.export.onnx.find_spec", lambda name: None if name == "onnxruntime" else name)
    result = wavenet("export", model_file, "-o", tmp_path / "x")
    assert result.status == 0
    assert "not checked: onnxruntime is not installed" in result.out
