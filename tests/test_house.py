"""The map in README.md is the house: every module stands in it, and imports point up."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = (ROOT / "README.md").read_text("utf-8").partition("## The map")[2].partition("\n## ")[0]
ROWS = [re.findall(r"`([a-z_]+)(?:\.py|/)`", line.split("|")[1]) for line in MAP.splitlines() if line.startswith("| `")]
PLACES = {name: row for row, names in enumerate(ROWS) for name in names}
MODULES = sorted(path.relative_to(ROOT / "wavenet") for path in (ROOT / "wavenet").rglob("*.py"))


def place(module: str) -> int:
    """The row of `wavenet.x` or `wavenet.x.y`."""
    return PLACES[module.split(".")[1]]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if not path.name.startswith("__") or len(path.parts) > 1], ids=str
)
def test_imports_point_up_the_map(path: Path) -> None:
    tree = ast.parse((ROOT / "wavenet" / path).read_text("utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = place("wavenet." + path.parts[0].removesuffix(".py"))
    below = [module for module in imported if module.startswith("wavenet.") and place(module) > own]
    assert not below, f"{path} stands above what it imports"


def test_the_map_names_what_is_there() -> None:
    assert set(PLACES) - {"naive", "incremental", "native"} == {
        path.parts[0].removesuffix(".py") for path in MODULES if not path.parts[0].startswith("__")
    }
