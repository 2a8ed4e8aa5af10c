"""Every claim of recipes/convolutions is an assertion."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent / "recipes" / "convolutions" / "convolutions.py"
SPEC = importlib.util.spec_from_file_location("convolutions", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
CLAIMS = sorted(name for name in vars(MODULE) if name.startswith("claim_"))

MARKDOWN = (SCRIPT.parent / "README.md").read_text("utf-8")
PAGE = " ".join(MARKDOWN.split())
QUOTED = [part for part in PAGE.split('"')[1::2] if len(part) > len("fractional stride")]
_, *GIVEN = re.findall(r"\| ((?:\d, )+\d) \|", PAGE)
"""What the four inputs give, in the first table."""
SEEN = re.search(r"\| (layers .*?) \| \| ---.*?--- \| \| (.*) \| Counted", PAGE)
"""The head of the second table, and its rows."""
assert SEEN is not None
TABLES = [" | ".join(GIVEN), " ".join(SEEN.groups()).replace(" | | ", " ")]
"""What is not quoted but stands in a table."""


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_holds_and_the_page_says_what_was_found(name: str) -> None:
    assert " ".join(getattr(MODULE, name)().split()) in [*QUOTED, *TABLES]


def test_the_page_quotes_nothing_else() -> None:
    assert len(QUOTED) == len(set(QUOTED)) == len(CLAIMS) - len(TABLES)


def test_the_calls_on_the_page_give_what_stands_beside_them() -> None:
    [block] = re.findall(r"```python\n(.*?)```", MARKDOWN, re.DOTALL)
    names: dict[str, object] = {}
    given = []
    for line in block.splitlines():
        call, _, said = line.partition("  # ")
        exec(f"result = {call}" if said else call, names)
        if said:
            result = names["result"]
            assert isinstance(result, torch.Tensor)
            given.append(said)
            assert ", ".join(f"{value:g}" for value in result.flatten().tolist()) == said
    assert given == GIVEN, "as in the table"


def test_pictures_are_drawn(tmp_path: Path) -> None:
    drawn = MODULE.draw(tmp_path)
    assert all(path.stat().st_size > 5000 for path in drawn)
    assert [path.name for path in drawn if f"({path.name})" in MARKDOWN] == list(MODULE.PICTURES), "and shown"
