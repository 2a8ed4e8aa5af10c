"""Timed labels: a sentence in four kinds of file is the same to a frame; what cannot be is refused in one line."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavenet.data import read_timed_labels
from wavenet.network import TIMED_ROWS, TimedLabel, check_timed_labels, timed_frames

NAMES = ["one", "two", 'zwei "quoted"']
LABELS = (TimedLabel(0.1, 0.35, "one"), TimedLabel(0.35, 0.8, "two"), TimedLabel(1.0, 1.25, 'zwei "quoted"'))
LONG_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 6
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.35
            text = "one"
        intervals [3]:
            xmin = 0.35
            xmax = 0.8
            text = "two"
        intervals [4]:
            xmin = 0.8
            xmax = 1.0
            text = ""
        intervals [5]:
            xmin = 1.0
            xmax = 1.25
            text = "zwei ""quoted"""
        intervals [6]:
            xmin = 1.25
            xmax = 1.5
            text = ""
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.5
            mark = "click"
'''
SHORT_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
1
"IntervalTier"
"words"
0
1.5
3
0.1
0.35
"one"
0.35
0.8
"two"
1.0
1.25
"zwei ""quoted"""
'''
FILES = {
    "sentence.txt": '0.1\t0.35\tone\n\\\t100\t200\n0.35\t0.8\ttwo\n1.0\t1.25\tzwei "quoted"\n',
    "long.TextGrid": LONG_GRID,
    "short.TextGrid": SHORT_GRID,
    "sentence.csv": 'name,start,end\ntwo,0.35,0.8\none,0.1,0.35\n"zwei ""quoted""",1.0,1.25\n',
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_of_file_gives_the_same_labels(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding)
    assert read_timed_labels(path) == LABELS


def test_htk_counts_in_100_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "sentence.LAB"
    path.write_text("0 1000000 sil\n1000000 3500000 one -12.5\n")
    silence, one = read_timed_labels(path)
    assert (silence, one.name) == (TimedLabel(0, 0.1, "sil"), "one")
    assert (one.start, one.end) == pytest.approx((0.1, 0.35))


def test_a_frame_knows_where_it_is() -> None:
    rows = timed_frames(LABELS, NAMES, frames=16, frames_per_second=10)
    before, name, after, passed, length = rows
    #                       0  .1 .2 .3 .4 .5 .6 .7 .8 .9 1  1.1 ...
    assert name.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 0, 0, 3, 3, 3, 0, 0, 0]
    assert before.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 0, 0, 0, 3, 3, 3]
    assert after.tolist() == [1, 2, 2, 2, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(passed[1:4], torch.tensor([0, 0.4, 0.8]))
    torch.testing.assert_close(passed[8:10], torch.tensor([0, 0.5]), atol=1e-6, rtol=0)
    torch.testing.assert_close(length[[0, 1, 4, 9, 15]].exp(), torch.tensor([1, 0.25, 0.45, 0.2, 1]))
    assert rows.shape == (len(TIMED_ROWS), 16)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 5))
def test_what_has_passed_rises_and_each_label_fills_its_frames(hundredths: list[int], offset: int) -> None:
    """Impulse test of alignment: the frames of a label are those whose centres it covers, and no others."""
    labels, time = [], offset
    for number, length in enumerate(hundredths):
        labels.append(TimedLabel(time / 100, (time + length) / 100, NAMES[number % 2]))
        time += length
    rows = timed_frames(labels, NAMES, frames=time + 3, frames_per_second=100)
    expected = [0] * offset + [1 + n % 2 for n, length in enumerate(hundredths) for _ in range(length)] + [0] * 3
    assert rows[1].tolist() == expected
    for label in labels:
        inside = rows[3, round(label.start * 100) : round(label.end * 100)]
        assert (inside.diff() > 0).all()
        assert 0 <= float(inside[0]) < 1e-5
        assert float(inside[-1]) < 1


def test_no_labels_are_one_gap() -> None:
    assert not timed_frames([], NAMES, frames=5, frames_per_second=10).any()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "0.1 0.2 one\n", "line 1 is '0.1 0.2 one'; expected start, end and name with tabs"),
        ("a.txt", "0.1\tx\tone\n", "line 1: could not convert string to float: 'x'"),
        ("a.txt", "0.2\t0.1\tone\n", "line 1: label 'one' lasts from 0.2 to 0.1 s; expected 0 <= start < end"),
        ("a.txt", "-1\t1\tone\n", "lasts from -1 to 1 s"),
        ("a.txt", "0\tinf\tone\n", "lasts from 0 to inf s"),
        ("a.txt", "0\t1\tone\n0.5\t2\ttwo\n", "label 'two' begins at 0.5 s, before 'one' ends at 1 s"),
        ("a.txt", "\n", "has no labels"),
        ("a.lab", "0.1 0.2 one\n", "line 1 is '0.1 0.2 one'; expected start and end in units of 100 ns"),
        ("a.csv", "start,name\n0,one\n", "its header lacks end; expected start, end and name"),
        ("a.csv", "start,end,name\n0,1\n", "line 2 has too many or too few fields"),
        ("a.csv", "start,end,name\n0,1,one, two\n", "line 2 has too many or too few fields"),
        ("a.TextGrid", "nothing", "it is no TextGrid of Praat"),
        ("a.TextGrid", LONG_GRID[:300], "it is no TextGrid of Praat"),
        (
            "a.TextGrid",
            LONG_GRID.replace("TextTier", "IntervalTier")
            .replace("number = 0.5", "xmin = 0\n            xmax = 1")
            .replace("points", "intervals")
            .replace("mark", "text"),
            "it has 2 interval tiers (words, clicks); choose one",
        ),
        ("a.doc", "0\t1\tone\n", "is no file of timed labels; expected .txt, .textgrid, .lab, .csv"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        read_timed_labels(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_unknown_names_tiers_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label 'two' at 0.35 s is unknown; known are one"):
        timed_frames(LABELS, ["one"], frames=2, frames_per_second=10)
    grid = tmp_path / "a.TextGrid"
    grid.write_text(LONG_GRID)
    assert read_timed_labels(grid, tier="words") == LABELS
    with pytest.raises(ValueError, match=r"it has no interval tier 'clicks'; it has words"):
        read_timed_labels(grid, tier="clicks")
    (tmp_path / "b.txt").write_bytes(b"0\t1\t\xff\xfe\xfa")
    with pytest.raises(ValueError, match="not text in UTF-8 or UTF-16"):
        read_timed_labels(tmp_path / "b.txt")
    with pytest.raises(ValueError, match=r"b.txt has no tiers; leave it out"):
        read_timed_labels(tmp_path / "b.txt", tier="words")
    with pytest.raises(FileNotFoundError, match="no such file of timed labels"):
        read_timed_labels(tmp_path / "none.txt")
    assert check_timed_labels([*reversed(LABELS), TimedLabel(3, 4, "")]) == LABELS
