"""What the README shows in Python runs, and every command it names exists with the flags it gives."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("recipes/*/README.md")), ROOT / "samples" / "README.md"]


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "babble.wav").stat().st_size > 16000


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_have_the_flags_the_pages_give(page: Path) -> None:
    text = page.read_text("utf-8").replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"(?:^    |`)(wavenet [^`\n]+)", text, re.MULTILINE)
    ]
    used = {(words[1], flag) for words in commands for flag in words[2:] if re.fullmatch(r"--?[a-z][a-z-]*", flag)}
    for name in sorted({command for command, _ in used} - {"COMMAND"}):
        entry = [sys.executable, "-c", "from wavenet.cli import main; main()", name, "--help"]
        described = subprocess.run(entry, capture_output=True, text=True, check=True).stdout
        flags = {flag for command, flag in used if command == name}
        assert all(re.search(rf"(?<![\w-]){flag}(?![\w-])", described) for flag in flags), (
            f"{name} lacks one of {flags}"
        )
