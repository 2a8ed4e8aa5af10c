"""Write a model as ONNX: a few small networks, made of the model's own parts, that run without this package.

    network      inputs                                                     outputs
    sequence     symbols and conditioning                                   parameters of each next sample
    step         the newest symbol, the queues, what is known ahead         parameters of the next sample, the queues
    condition    the frames around one (if the model has features)          what `step` is to know ahead, for a hop
    predict      past samples (if linear prediction is fitted to them)      the same, for a block

`model.json` has what a program must know, such as the inputs and outputs of each network. `initial.npz` has the state
after endless silence.
"""

import copy
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

from wavenet.atomic import check_utf8, check_writable, write_atomically
from wavenet.export.networks import ExportNetwork, initial_state, networks, start
from wavenet.export.operations import exportable
from wavenet.network import WaveNet

CLOSE = 0.01
"""An output that differs this much from torch is an error. The shipped models differ by less than 1e-5."""

_FORMAT = "onnx export, version 1"
_FILES = {"sequence.onnx", "step.onnx", "condition.onnx", "predict.onnx", "initial.npz", "model.json"}
_INSTALL = "install the extra: pip install 'wavenet-toolkit[onnx]'"


@dataclass(frozen=True)
class OnnxExport:
    """The names of the files written, and how far each network is from torch: `None` without onnxruntime."""

    files: tuple[str, ...]
    differences: dict[str, float] | None


def export_onnx(model: WaveNet, folder: str | os.PathLike[str], *, force: bool = False) -> OnnxExport:
    """Write a model's networks, and what a program needs to run them, to a folder.

    `force` replaces the files of another export. Raises `ValueError` before anything is written if the folder exists
    or its parent does not, if packages are missing, or if a network differs from torch when onnxruntime runs it.
    """
    folder = Path(folder)
    _check(folder, force)
    if model.config.labels:
        raise ValueError(f"the model is told a {' and a '.join(model.config.labels)}; an export takes only speakers")
    if model.config.tracks:
        raise ValueError(f"the model takes the tracks {', '.join(model.config.tracks)}; an export takes only features")
    model = copy.deepcopy(model).cpu()
    contents, tables = {}, {}
    originals = networks(model)
    for name, network in networks(exportable(model)).items():
        with torch.no_grad():
            outputs = originals[name](network.example(batch=2))
        program = _translate(network, list(outputs))
        contents[f"{name}.onnx"] = program.model_proto.SerializeToString()
        tables[name] = {"inputs": _table(program.model.graph.inputs), "outputs": _table(program.model.graph.outputs)}
    differences = largest_differences(model, contents) if find_spec("onnxruntime") else None
    far = [f"{name} by {most:.2g}" for name, most in (differences or {}).items() if not most < CLOSE]
    if far:
        raise ValueError(f"the ONNX networks differ from torch on noise ({', '.join(far)}); nothing was written")
    contents["initial.npz"] = _npz(initial_state(model))
    contents["model.json"] = json.dumps({**_description(model), "networks": tables}, indent=1).encode()
    _write(folder, contents)
    return OnnxExport(tuple(contents), differences)


def largest_differences(model: WaveNet, contents: Mapping[str, bytes]) -> dict[str, float]:
    """Run each network of an export in onnxruntime on noise: its largest difference from torch in any output.

    `contents` has the networks' files by name. Raises `ImportError` if onnxruntime is missing.
    """
    import onnxruntime

    found = {}
    for name, network in networks(model).items():
        session = onnxruntime.InferenceSession(contents[f"{name}.onnx"], providers=["CPUExecutionProvider"])
        inputs = network.example(batch=3)
        with torch.no_grad():
            expected = network(inputs)
        outputs = session.run(list(expected), {key: value.numpy() for key, value in inputs.items()})
        pairs = zip(outputs, expected.values(), strict=True)
        found[name] = float(np.max([np.abs(ours - theirs.numpy()).max() for ours, theirs in pairs]))  # NaN if one is
    return found


def _check(folder: Path, force: bool) -> None:
    if not all(find_spec(package) for package in ("onnx", "onnxscript")):
        raise ValueError(f"exporting needs the packages onnx and onnxscript; {_INSTALL}")
    check_utf8(folder, "ONNX Runtime")
    for name in sorted(_FILES):
        if (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a folder; expected a file, or nothing; choose another folder")
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder to write")
    if folder.exists() and not force:
        raise ValueError(f"{folder} exists; choose another folder or pass force=True to replace its files")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder.parent}: no such folder to write {folder.name} to")
    check_writable(folder / "model.json")


def _translate(network: ExportNetwork, outputs: list[str]) -> Any:
    """Translate a network to torch's ONNX program."""
    example, batch = network.example(batch=2), Dim("batch")
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            kwargs={"given": example},
            dynamo=True,
            dynamic_shapes={"given": {name: {0: batch, **network.free.get(name, {})} for name in example}},
            input_names=list(example),
            output_names=outputs,
            optimize=False,
            verbose=False,
        )
        _simplify(program.model)
    return program


def _simplify(graph: Any) -> None:
    """Fold constants and drop the exporter's notes. (Its whole optimizer would take small numbers for zero.)"""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    optimizer.inline(graph)
    optimizer.fold_constants(graph, onnx_shape_inference=True)
    optimizer.remove_unused_nodes(graph)
    for simplify in (passes.DeduplicateInitializersPass(), passes.ClearMetadataAndDocStringPass()):
        simplify(graph)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings: they are about its own code."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (UserWarning, DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        logging.disable(before)


def _table(values: Any) -> list[dict[str, Any]]:
    """Name, type and shape of a graph's inputs or outputs. An axis of any length is a name."""
    return [
        {
            "name": value.name,
            "type": value.dtype.numpy().name,
            "shape": [axis if isinstance(axis, int) else str(axis.value) for axis in value.shape],
        }
        for value in values
    ]


def _description(model: WaveNet) -> dict[str, Any]:
    """Describe what a program must know besides the networks' shapes."""
    config, features = model.config, None
    if model.conditioner is not None and config.features is not None:
        around = {"frames_before": model.alignment.look_ahead - 1, "frames_after": model.alignment.look_ahead}
        features = {**asdict(config.features), "silence": config.features.silence, **around}
    return {
        "format": _FORMAT,
        "sample_rate": config.sample_rate,
        "distribution": asdict(config)["distribution"],
        "silence": model.distribution.silence,
        "pre_emphasis": config.pre_emphasis,
        "speakers": list(config.speakers),
        "features": features,
        "block": None if model.predictor is None or not model.predictor.fits_past else model.predictor.block,
        "context": model.context,
        "start": start(model),
    }


def _npz(tensors: dict[str, Tensor]) -> bytes:
    encoded = io.BytesIO()
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez_compressed(encoded, **arrays)
    return encoded.getvalue()


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write all the files, or leave what is in the folder: they are complete in a temporary one before they are moved.

    The networks of another export go. `model.json` goes first and comes last, so that nobody reads a mixture of two.
    """
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export.") as new:
            for name, data in contents.items():
                write_atomically(Path(new) / name, data)
            for name in sorted(_FILES, key="model.json".__ne__) if _holds_export(folder) else ():
                (folder / name).unlink(missing_ok=True)
            for name in sorted(contents, key="model.json".__eq__):
                os.replace(Path(new) / name, folder / name)
    except BaseException as error:
        if made:
            with suppress(OSError):
                folder.rmdir()  # it stays if others wrote into it
        if not isinstance(error, OSError):
            raise
        reason = os.strerror(error.errno) if error.errno else error
        raise OSError(error.errno, f"cannot write an export ({reason}); choose another folder", str(folder)) from error


def _holds_export(folder: Path) -> bool:
    try:
        about = json.loads((folder / "model.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("format") == _FORMAT
