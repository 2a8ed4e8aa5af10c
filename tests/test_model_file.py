import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import small_config
from wavenet import WaveNet
from wavenet.atomic import write_atomically


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    WaveNet(small_config()).save_pretrained(path)
    return path


def rewrite(path: Path, config: dict[str, object] | None = None, **tensors: torch.Tensor | None) -> None:
    """Change the file's configuration or tensors (None removes one) behind the toolkit's back."""
    from wavenet.network.model_file import read_model_file, write_model_file

    kept, metadata = read_model_file(path)
    changed = {name: tensor for name, tensor in {**kept, **tensors}.items() if tensor is not None}
    write_model_file(path, changed, {"config": {**metadata["config"], **(config or {})}})


def test_a_name_that_is_no_text_is_at_fault_not_the_model(model_file: Path) -> None:
    path = model_file.rename(model_file.with_name("m\udcff.safetensors"))
    with pytest.raises(ValueError, match=r"is not UTF-8 text, and safetensors needs such a path; choose another"):
        WaveNet.from_pretrained(path)


def test_models_are_read_and_written_without_torchs_compiler(tmp_path: Path) -> None:
    """It takes two seconds to load, and arithmetic on the meta device would load it."""
    program = (
        "import sys; from wavenet import WaveNet, shipped_models\n"
        "for name in shipped_models(): WaveNet.from_pretrained(name).save_pretrained(sys.argv[1])\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "model.safetensors"], check=True)


def test_every_truncation_is_refused(model_file: Path) -> None:
    data = model_file.read_bytes()
    for length in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 1):
        model_file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is not a model file, or not a whole one"):
            WaveNet.from_pretrained(model_file)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(3)}, foreign)
    with pytest.raises(ValueError, match="not a model of this toolkit"):
        WaveNet.from_pretrained(foreign)
    torch.save({"x": torch.zeros(3)}, foreign)
    with pytest.raises(ValueError, match="is not a model file"):
        WaveNet.from_pretrained(foreign)
    with pytest.raises(ValueError, match="is a folder or device"):
        WaveNet.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such model file"):
        WaveNet.from_pretrained(tmp_path / "none")


def test_tensors_that_do_not_fit_the_configuration_are_named(model_file: Path) -> None:
    rewrite(model_file, **{"head.bias": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"'head.bias' has shape \(4,\); its configuration needs \(9,\)"):
        WaveNet.from_pretrained(model_file)
    for wrong, message in ((torch.zeros(9, dtype=torch.int64), "int64"), (torch.full((9,), torch.nan), "not finite")):
        rewrite(model_file, **{"head.bias": wrong})
        with pytest.raises(ValueError, match=rf"'head.bias' .*{message}"):
            WaveNet.from_pretrained(model_file)
    rewrite(model_file, **{"head.bias": None})
    with pytest.raises(ValueError, match=r"'head.bias' is missing"):
        WaveNet.from_pretrained(model_file)
    rewrite(model_file, **{"head.bias": torch.zeros(9), "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="'extra' is unknown"):
        WaveNet.from_pretrained(model_file)


@pytest.mark.parametrize(
    "config",
    [
        {"distribution": {"kind": "categorical", "classes": 100}},
        {"residual_channels": "many"},
        {"unknown": 1},
        {"residual_channels": 2**62},
        {"dilations": [1] * 2000},
        {"dilations": None},
        {"dilations": [1.5, 2, 4]},
        {"dilations": [10**400]},
        {"sample_rate": 10**12},
    ],
)
def test_impossible_configurations_are_refused(model_file: Path, config: dict[str, object]) -> None:
    rewrite(model_file, config)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        WaveNet.from_pretrained(model_file)


def test_metadata_is_plain_json(model_file: Path) -> None:
    header_length = int.from_bytes(model_file.read_bytes()[:8], "little")
    header = json.loads(model_file.read_bytes()[8 : 8 + header_length])
    config = json.loads(header["__metadata__"]["wavenet-toolkit"])["config"]
    assert config["dilations"] == [1, 2, 4]
    assert config["sample_rate"] == 16000
    assert "embedding.weight" in load_file(model_file)


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through_and_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for data in (b"first", b"second"):
        write_atomically(tmp_path / "link", data)
        assert (tmp_path / "file").read_bytes() == data
    assert (tmp_path / "link").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="is a folder or device, which is not replaced; choose another path"):
            write_atomically(path, b"new")
    assert (tmp_path / "pipe").is_fifo()
