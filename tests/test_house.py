"""docs/map.md lists every module; imports point up it, to what the `__init__` of a package names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [line.split("|")[1:4] for line in (ROOT / "docs" / "map.md").read_text("utf-8").splitlines() if "| `" in line]
PACKAGES = [name for row in ROWS for name in re.findall(r"`([a-z]+)`", row[0])]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "wavenet").rglob("*.py"))


def imports(path: Path) -> list[str]:
    """The modules of the package that a module imports from, wherever in it."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [module for module in found if module.startswith("wavenet.")]


def package(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", [path for path in MODULES if package(path) in PACKAGES], ids=str)
def test_imports_point_up_the_map_and_take_public_names(path: Path) -> None:
    for module in imports(path):
        other, *deeper = module.split(".")[1:]
        assert PACKAGES.index(other) <= PACKAGES.index(package(path)), f"{path} stands above {module}, which it imports"
        assert other == package(path) or not deeper, f"{path} imports from inside another package: {module}"


def test_no_modules_import_each_other() -> None:
    graph = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): imports(path) for path in MODULES}
    graph = {name: [module for module in found if module in graph] for name, found in graph.items()}
    done: set[str] = set()
    while ready := {name for name in graph.keys() - done if done.issuperset(graph[name])}:
        done |= ready
    assert not graph.keys() - done


def test_the_map_names_what_is_there() -> None:
    assert set(PACKAGES) == {package(path) for path in MODULES if not path.parts[1].startswith("__")}
    for names, _, modules in ROWS:
        for name in re.findall(r"`([a-z]+)`", names):
            inside = {
                path.parts[2].removesuffix(".py") for path in MODULES if package(path) == name and len(path.parts) > 2
            }
            missing = inside - {"__init__"} - set(re.findall(r"`([a-z_]+)`", modules))
            assert name == "cli" or not missing, f"the row of {name} lacks {missing}"
