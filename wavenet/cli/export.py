"""`wavenet export`: a model for programs that run without this package."""

from pathlib import Path
from typing import Annotated

import typer

from wavenet.cli.options import Force, ModelFile
from wavenet.export import CLOSE, export_onnx, largest_differences
from wavenet.model import WaveNet

__all__ = ["export"]


def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    kind: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    force: Force = False,
) -> None:
    """Write a model as ONNX networks: of whole sequences, and of one step with its queues. Takes a minute or two."""
    if kind != "onnx":
        raise ValueError(f"--format is {kind!r}; expected onnx")
    network = WaveNet.from_pretrained(model)
    files = export_onnx(network, output, force=force)
    size = sum((output / name).stat().st_size for name in files)
    print(f"wrote {output}: {', '.join(files)} ({size / 1e6:.1f} MB)")
    try:
        differences = largest_differences(network, output)
    except ImportError:
        print("not checked: onnxruntime is not installed (pip install 'wavenet-toolkit[onnx]')")
        return
    far = [f"{name} by {difference:.2g}" for name, difference in differences.items() if not difference < CLOSE]
    if far:
        raise ValueError(f"{output} differs from torch, run in onnxruntime on noise ({', '.join(far)}); do not use it")
    found = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    print(f"largest differences from torch, run in onnxruntime on noise: {found}")
