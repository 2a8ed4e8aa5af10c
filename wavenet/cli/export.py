"""`wavenet export`: a model for programs that run without this package."""

from pathlib import Path
from typing import Annotated

import typer

from wavenet.cli.options import Force, ModelFile


def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    force: Force = False,
) -> None:
    """Write a model as ONNX networks, for other runtimes.

    One network takes whole sequences, the other one step with its queues. Takes under a minute.
    """
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
