"""`wavenet export`: a model for programs that run without this package, or as a page in which it speaks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wavenet.cli.options import Force, check_output
from wavenet.shipped import model_path, shipped_models

if TYPE_CHECKING:
    from wavenet.page import SpeakingModel

_PAGES = (".html", ".htm")


def export(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL", help="Model file (.safetensors), or a name of `wavenet models`; a page may have several."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; with --format page, the HTML file.")],
    kind: Annotated[
        Literal["onnx", "page"],
        typer.Option("--format", help="onnx: networks for other runtimes. page: one HTML file that speaks."),
    ] = "onnx",
    example: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Recording that a vocoder's page begins with; 0.2 to 30 seconds."),
    ] = None,
    force: Force = False,
) -> None:
    """Write a model for other runtimes, or as a page that speaks.

    --format onnx writes two ONNX networks: one takes whole sequences, the other one step with its queues. Takes under a
    minute.

    --format page writes one HTML file that runs models in a browser, as WebAssembly, without a network connection.
    """
    if kind == "page":
        _page(models, output, example, force)
    elif output.suffix.lower() in _PAGES:
        raise ValueError(f"{output}: --format onnx writes a folder; for a page pass --format page")
    elif len(models) > 1:
        raise ValueError(f"{len(models)} models are given; --format onnx takes one, --format page several")
    elif example is not None:
        raise ValueError("--example goes with --format page")
    else:
        _onnx(models[0], output, force)


def _page(paths: list[Path], output: Path, example: Path | None, force: bool) -> None:
    if output.suffix.lower() not in _PAGES:
        raise ValueError(f"{output}: a page needs the suffix .html; rename it")
    check_output(output, force)

    from wavenet.atomic import write_atomically
    from wavenet.page import build_page

    models = [_speaking(path, example) for path in paths]
    if example is not None and not any(one.example is not None for one in models):
        raise ValueError("--example is given, and no model copies recordings; leave it out")
    names = " and ".join(one.name for one in models)
    speaks = "a WaveNet speaks" if len(models) == 1 else "WaveNets speak"
    write_atomically(output, build_page(models, f"{names}: {speaks}").encode())
    print(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB); open it in a browser")


def _speaking(path: Path, example: Path | None) -> "SpeakingModel":
    """The model under its shipped name, or that of its run or file; what ships with the package says more of itself."""
    from wavenet.cli.recordings import read_recording
    from wavenet.network import WaveNet
    from wavenet.page import SpeakingModel

    file, model = model_path(path), WaveNet.from_pretrained(path)
    config, recording, heard = model.config, None, ""
    if example is not None and config.features is not None and config.timed_labels is None:
        recording, heard = read_recording(example, config.sample_rate), _printable(example.name)
        seconds = len(recording) / config.sample_rate
        if not 0.2 <= seconds <= 30:
            raise ValueError(f"--example: {example} has {seconds:.2f} seconds; expected 0.2 to 30")
        if float(recording.abs().max()) < 0.001:
            raise ValueError(f"--example: {example} is silent; choose a recording with sound")
    shipped = shipped_models().get(str(path))
    if shipped is not None and shipped.path == file:
        name, does, data, licence = shipped.name, shipped.does, shipped.data, shipped.licence
    else:
        named = file.resolve().parent.name if file.name == "model.safetensors" else file.stem
        name, does, data, licence = _printable(named), "", "", ""
    return SpeakingModel(
        model=model, name=name, does=does, data=data, licence=licence, example=recording, example_name=heard
    )


def _printable(name: str) -> str:
    """A name in which signs that cannot be shown, or that reorder the words around them, are spelled out."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name)
    return shown.strip() or "the model"


def _onnx(model: Path, output: Path, force: bool) -> None:
    from wavenet.export import export_onnx
    from wavenet.network import WaveNet

    exported = export_onnx(WaveNet.from_pretrained(model), output, force=force)
    size = sum((output / name).stat().st_size for name in exported.files)
    print(f"wrote {output}: {', '.join(exported.files)} ({size / 1e6:.1f} MB)")
    if exported.differences is None:
        print("not checked: onnxruntime is not installed (pip install 'wavenet-toolkit[onnx]')")
        return
    found = ", ".join(f"{name} {difference:.1e}" for name, difference in exported.differences.items())
    print(f"largest differences from torch, run in onnxruntime on noise: {found}")
