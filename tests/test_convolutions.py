"""Every claim of recipes/convolutions is an assertion."""

import importlib.util
import re
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "recipes" / "convolutions" / "convolutions.py"
SPEC = importlib.util.spec_from_file_location("convolutions", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
CLAIMS = sorted(name for name in vars(MODULE) if name.startswith("claim_"))


PAGE = " ".join((SCRIPT.parent / "README.md").read_text("utf-8").split())
QUOTED = [part for part in PAGE.split('"')[1::2] if len(part) > len("fractional stride")]
TABLE = [" | ".join(re.findall(r"\| ([\d, ]+) \|", PAGE)[1:])]
"""What the four inputs give, which stands in a table."""


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_holds_and_the_page_says_what_was_found(name: str) -> None:
    assert getattr(MODULE, name)() in [*QUOTED, *TABLE]


def test_the_page_quotes_nothing_else() -> None:
    assert len(QUOTED) == len(set(QUOTED)) == len(CLAIMS) - len(TABLE)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    assert all(path.stat().st_size > 5000 for path in MODULE.draw(tmp_path))
