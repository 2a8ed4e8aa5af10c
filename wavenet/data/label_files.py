"""Reads timed labels as aligners and editors write them: Audacity, Praat, HTK, CSV."""

import csv
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wavenet.data.companions import companions_below, match_companions
from wavenet.network import TimedLabel, check_timed_labels

_HTK_PER_SECOND = 10_000_000


def read_label_folder(
    folder: Path,
    recordings: Sequence[str],
    *,
    tier: str | None = None,
    table: Path | None = None,
    note: Callable[[str], None],
) -> dict[str, tuple[Path, tuple[TimedLabel, ...]]]:
    """The file of timed labels below `folder`, and what it says, of each of the `recordings` that has one.

    They are matched as `match_companions` does. `.txt` counts only in a folder without the other kinds, because texts
    are kept in such files too. `table`, the corpus's metadata, is none of them. Raises `FileNotFoundError`, or
    `ValueError` that names the file, and its line if it cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of timed labels")
    others = companions_below(folder, table)
    files = [path for path in others if path.suffix.lower() in (".textgrid", ".lab", ".csv")]
    files = files or [path for path in others if path.suffix.lower() == ".txt"]
    if not files:
        raise ValueError(f"{folder} has no timed labels; expected files .TextGrid, .lab, .csv, or Audacity's .txt")
    matched = match_companions(folder, files, recordings, note)
    return {name: (path, _read_of_tier(path, tier)) for name, path in matched.items()}


def _read_of_tier(path: Path, tier: str | None) -> tuple[TimedLabel, ...]:
    return read_timed_labels(path, tier=tier if path.suffix.lower() == ".textgrid" else None)


def read_timed_labels(path: str | Path, *, tier: str | None = None) -> tuple[TimedLabel, ...]:
    """The labels of a file, in the order of time; intervals without a name are left out.

    - `.txt`: an Audacity label track, `start<TAB>end<TAB>name` in seconds;
    - `.TextGrid`: Praat's, long or short (the `labels` extra); `tier` names the interval tier if there are several;
    - `.lab`: HTK's, `start end name` in units of 100 ns;
    - `.csv`: a header with `start`, `end` (seconds) and `name`.

    Raises `FileNotFoundError`, or `ValueError` that names the file and the line.
    """
    path = Path(path)
    readers: dict[str, Callable[[], Iterator[TimedLabel]]] = {
        ".txt": lambda: _audacity(_text(path)),
        ".textgrid": lambda: _textgrid(path, tier),
        ".lab": lambda: _htk(_text(path)),
        ".csv": lambda: _csv(_text(path)),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is no file of timed labels; expected {', '.join(readers)}")
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{path} is a folder or device; expected a file of timed labels")
        raise FileNotFoundError(f"{path}: no such file of timed labels")
    if tier is not None and path.suffix.lower() != ".textgrid":
        raise ValueError(f"tier is {tier!r}, and {path} has no tiers; leave it out")
    try:
        labels = check_timed_labels(list(reader()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not labels:
        raise ValueError(f"{path} has no labels")
    return labels


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8 or UTF-16 ({error.reason})") from error


def _label(line: int, start: str, end: str, name: str, per_second: int = 1) -> TimedLabel:
    try:
        return TimedLabel(float(start) / per_second, float(end) / per_second, name.strip())
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error


def _audacity(text: str) -> Iterator[TimedLabel]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("\\"):  # the frequencies of a spectral selection
            continue
        fields = line.split("\t", 2)
        if len(fields) != 3:
            raise ValueError(f"line {number} is {line[:40]!r}; expected start, end and name with tabs between them")
        yield _label(number, fields[0], fields[1], fields[2])


def _htk(text: str) -> Iterator[TimedLabel]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split(maxsplit=2)
        if len(fields) != 3 or not all(re.fullmatch(r"-?\d+", field) for field in fields[:2]):
            raise ValueError(f"line {number} is {line[:40]!r}; expected start and end in units of 100 ns, and a name")
        start, end, name = fields
        yield _label(number, start, end, name.split()[0], _HTK_PER_SECOND)  # a score may follow the name


def _csv(text: str) -> Iterator[TimedLabel]:
    reader = csv.DictReader(text.splitlines())
    missing = {"start", "end", "name"} - set(reader.fieldnames or ())
    if missing:
        raise ValueError(f"its header lacks {', '.join(sorted(missing))}; expected start, end and name")
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has too many or too few fields; expected those of the header")
        yield _label(reader.line_num, row["start"], row["end"], row["name"])


def _textgrid(path: Path, tier: str | None) -> Iterator[TimedLabel]:
    if importlib.util.find_spec("praatio") is None:
        raise ValueError("praatio, which reads it, is not installed; pip install 'wavenet-toolkit[labels]'")
    from praatio import textgrid

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    except Exception as error:  # praatio lets every error of its parser through
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"it is no TextGrid of Praat ({reason})") from error
    tiers = [name for name in grid.tierNames if isinstance(grid.getTier(name), textgrid.IntervalTier)]
    if tier is None and len(tiers) != 1:
        raise ValueError(f"it has {len(tiers)} interval tiers ({', '.join(tiers)}); choose one with tier")
    if tier is not None and tier not in tiers:
        raise ValueError(f"it has no interval tier {tier!r}; it has {', '.join(tiers)}")
    for entry in grid.getTier(tier or tiers[0]).entries:
        yield TimedLabel(entry.start, entry.end, entry.label.strip())
