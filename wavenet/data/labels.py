"""Labels of clips: read from their names by a pattern, or from a table, which may hold their texts too."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar


def label_pattern(labels: str) -> re.Pattern[str]:
    """Compile `{word}_{speaker}_{take}` to an expression that matches a whole clip's name, a group for each kind.

    A kind matches text without `/`, as little as the rest allows; one that stands twice matches the same text twice;
    `{}` matches text that is dropped. Raises `ValueError` if braces do not pair, or name no kind of label.

    >>> label_pattern("{speaker}/{}_{sentence}").fullmatch("ann/arctic_a0001").groupdict()
    {'speaker': 'ann', 'sentence': 'a0001'}
    """
    first, *parts = re.split(r"\{(.*?)\}", labels)
    kinds, literals = parts[::2], [first, *parts[1::2]]
    if not any(kinds) or any(brace in literal for brace in "{}" for literal in literals):
        raise ValueError(f"labels is {labels!r}; expected kinds of label in braces, such as {{word}}_{{speaker}}")
    expression = re.escape(first)
    for index, (kind, literal) in enumerate(zip(kinds, literals[1:], strict=True)):
        if kind and not kind.isidentifier():
            raise ValueError(f"labels is {labels!r}; expected a kind of letters and digits in place of {kind!r}")
        group = f"(?P={kind})" if kind in kinds[:index] else f"(?P<{kind}>[^/]+?)"
        expression += (group if kind else "[^/]+?") + re.escape(literal)
    return re.compile(expression)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a table says of a clip."""

    name: str
    text: str | None
    labels: Mapping[str, str]


def read_metadata(path: Path) -> list[Row]:
    """The rows of a table in UTF-8.

    A table with a header is CSV: `name`, perhaps `text`, and kinds of label. Its first mark of `,`, `;`, `|` and tab
    separates the columns. A table without a header has lines `name|text` or `name|text|normalised text` (which then
    counts); tabs may stand for `|`, and quotes are text. Raises `ValueError` that names a line which is neither.
    """
    try:
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}); convert it") from error
    first = content.lstrip().partition("\n")[0]
    marks = sorted((mark for mark in ",;|\t" if mark in first), key=first.index)
    header = "name" in (field.strip(' "\r') for field in first.split(marks[0] if marks else None))
    delimiter = next((mark for mark in marks if header or mark in "|\t"), ",")
    reader = csv.reader(
        io.StringIO(content),
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if header else csv.QUOTE_NONE,
    )
    try:
        lines = [(reader.line_num, [field.strip() for field in fields]) for fields in reader if fields]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not CSV ({error})") from error
    if not lines:
        raise ValueError(f"{path} is empty; expected a row for each clip")
    if not (rows := list(_rows(path, lines, delimiter))):
        raise ValueError(f"{path} has a header and no rows; expected a row for each clip")
    return rows


def _rows(path: Path, lines: Sequence[tuple[int, list[str]]], delimiter: str) -> Iterator[Row]:
    header = lines[0][1] if "name" in lines[0][1] else []
    columns, expected = header or ["name", "text", "normalised text"], "name|text or name|text|normalised text"
    if not header and delimiter in ",;":
        first = delimiter.join(lines[0][1])[:60]
        raise ValueError(f"{path}: the first line is {first!r}; expected a header with name, or lines {expected}")
    if "" in header or len(set(header)) < len(header):
        raise ValueError(f"{path}: the header is {delimiter.join(header)!r}; expected another name for each column")
    for number, fields in lines[1:] if header else lines:
        row = {column: field for column, field in zip(columns, fields, strict=False) if field}
        if len(fields) not in ({len(header)} if header else {2, 3}) or "name" not in row:
            found, wanted = delimiter.join(fields)[:60], delimiter.join(header) or expected
            raise ValueError(f"{path}: line {number} is {found!r}; expected {wanted}")
        text = row.pop("text", None)
        yield Row(name=row.pop("name"), text=row.pop("normalised text", text), labels=row)


class Named(Protocol):
    """What tells of a recording and names it: a row of a table, a file of labels."""

    @property
    def name(self) -> str: ...


AnyNamed = TypeVar("AnyNamed", bound=Named)


def match_rows(
    path: Path, rows: Sequence[AnyNamed], files: Sequence[str], note: Callable[[str], None], called: str = "row"
) -> dict[str, AnyNamed]:
    """The row of each file that has one. `note` is told in one line what was left without a partner.

    `files` are paths below a corpus. A row names one with or without its suffix and its folders, and the folders may
    be more than are known here. Raises `ValueError` if no row names a file, or a file and a row have several partners.
    """
    answers: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for file in files:
        for known in (PurePosixPath(file), PurePosixPath(file).with_suffix("")):
            answers[known.name].append((known.parts, file))
    matched: dict[str, AnyNamed] = {}
    unknown = []
    for row in rows:
        found = _named(PurePosixPath(row.name).parts, answers.get(PurePosixPath(row.name).name, []))
        if len(found) > 1:
            raise ValueError(f"{path}: {row.name!r} names {found[0]} and {found[1]}; write folder and suffix")
        if not found:
            unknown.append(row.name)
        elif matched.setdefault(found[0], row) is not row:
            raise ValueError(
                f"{path}: the {called}s {matched[found[0]].name!r} and {row.name!r} name {found[0]}; drop one"
            )
    if not matched:
        raise ValueError(
            f"{path}: no {called} names a recording; the first {called} is for {rows[0].name!r}, not {files[0]!r}"
        )
    parts = (
        (f"{called}s without a recording", unknown),
        (f"recordings without a {called}", [file for file in files if file not in matched]),
    )
    if message := "; ".join(f"{what}: {len(names)} ({_first(names)})" for what, names in parts if names):
        note(f"{path}: {message}")
    return matched


def _named(parts: tuple[str, ...], answers: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """The files that a name of these parts means: the one of exactly this path, or all whose ends agree."""
    exact = [file for known, file in answers if known == parts]
    return exact or [
        file
        for known, file in answers
        if all(one == other for one, other in zip(reversed(known), reversed(parts), strict=False))
    ]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
