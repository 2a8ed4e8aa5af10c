"""Labels of clips, from names and tables, on their way to a dataset; and rules that hold clips out by them."""

import re
from pathlib import Path

import pytest
import soundfile

from tests.conftest import tone
from wavenet import HeldOut, PreparedDataset, load_folder
from wavenet.data import PrepareConfig, Recording, find_clips, prepare_dataset
from wavenet.data.labels import label_pattern, read_metadata


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(0.05), 16000)


def labels_of(clips: list[Recording]) -> dict[str, dict[str, str]]:
    return {clip.name: dict(clip.labels) for clip in clips}


@pytest.mark.parametrize(
    ("pattern", "name", "labels"),
    [
        ("{word}_{speaker}_{take}", "7_theo_0", {"word": "7", "speaker": "theo", "take": "0"}),
        ("{word}_{speaker}_{take}", "7_theo_0_b", {"word": "7", "speaker": "theo", "take": "0_b"}),
        ("{word}_{speaker}_{take}", "7_theo", None),
        ("{word}_{speaker}_{take}", "a/7_theo_0", None),
        ("{word}_{take}", "_0", None),
        ("{speaker}/{}_{sentence}", "ann/arctic_a0001", {"speaker": "ann", "sentence": "a0001"}),
        ("{speaker}/{}_{sentence}", "ann/deep/arctic_a0001", None),
        ("{}/{speaker}/x", "b/ann/x", {"speaker": "ann"}),
        ("{}/{speaker}/x", "b/ann/xy", None),
        ("{speaker}/{speaker}_{take}", "p225/p225_001", {"speaker": "p225", "take": "001"}),
        ("{speaker}/{speaker}_{take}", "p225/p226_001", None),
        ("{speaker}+({take})[.*]", "ann+(1)[.*]", {"speaker": "ann", "take": "1"}),
        ("{speaker}+({take})[.*]", "ann+(1)[aa]", None),
        ("{word} {größe}", "sehr\nlang é", {"word": "sehr\nlang", "größe": "é"}),
    ],
)
def test_a_pattern_reads_labels_from_a_whole_name(pattern: str, name: str, labels: dict[str, str] | None) -> None:
    match = label_pattern(pattern).fullmatch(name)
    assert labels == (match and match.groupdict())


@pytest.mark.parametrize(
    "pattern", ["", "{}", "word", "{word", "word}", "{{word}}", "{word}_{", "{a b}", "{1}", "{a-b}"]
)
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=rf"labels is {re.escape(repr(pattern))}; expected "):
        label_pattern(pattern)


def test_a_file_that_does_not_match_is_named(tmp_path: Path) -> None:
    put(tmp_path, "7_theo_0.wav", "stray.wav")
    with pytest.raises(ValueError, match=r"labels is '{a}_{b}_{c}'; .*/stray\.wav does not match it"):
        find_clips(tmp_path, "folder", held_out=0.1, labels="{a}_{b}_{c}")


def test_labels_are_read_below_the_source_without_the_suffix(tmp_path: Path) -> None:
    put(tmp_path / "in_put", "ann/1.5.wav", "bob/2.flac", "bob/2.wav")
    clips = find_clips(tmp_path / "in_put", "folder", held_out=0.1, labels="{speaker}/{take}")
    assert labels_of(clips) == {
        "ann/1.5": {"speaker": "ann", "take": "1.5"},
        "bob/2.flac": {"speaker": "bob", "take": "2"},
        "bob/2.wav": {"speaker": "bob", "take": "2"},
    }
    assert [clip.speaker for clip in clips] == ["ann", "bob", "bob"]


def test_a_share_of_a_label_keeps_its_values_together_and_moves_none(tmp_path: Path) -> None:
    put(tmp_path, *(f"arctic_a{sentence:04}_{take}.wav" for sentence in range(40) for take in (0, 1)))
    options = {"held_out": HeldOut(label="sentence", share=0.2), "labels": "{set}_{sentence}_{take}"}
    before = {clip.name: clip for clip in find_clips(tmp_path, "folder", **options)}
    held_out = {clip.labels["sentence"] for clip in before.values() if clip.split == "test"}
    assert all((clip.labels["sentence"] in held_out) == (clip.split == "test") for clip in before.values())
    put(tmp_path, *(f"arctic_b{sentence:04}_{take}.wav" for sentence in range(10) for take in (0, 1, 2)))
    after = {clip.name: clip for clip in find_clips(tmp_path, "folder", **options)}
    assert all(after[name].split == clip.split for name, clip in before.items())
    assert held_out == {"a0004", "a0009", "a0016", "a0025", "a0034", "a0038"}, "must never change: models rely on it"


def test_values_hold_out_exactly_their_clips(tmp_path: Path) -> None:
    put(tmp_path, *(f"{digit}_theo_{take}.wav" for digit in range(3) for take in (0, 1, 10)))
    rule = HeldOut(label="take", values=("0", "1"))
    clips = find_clips(tmp_path, "folder", held_out=rule, labels="{digit}_{speaker}_{take}")
    assert {clip.name for clip in clips if clip.split == "test"} == {f"{d}_theo_{t}" for d in range(3) for t in (0, 1)}
    with pytest.raises(ValueError, match="held_out is by the take '2', which no clip has"):
        find_clips(tmp_path, "folder", held_out=HeldOut(label="take", values=("0", "2")), labels="{}_{}_{take}")
    with pytest.raises(ValueError, match="held_out is by the label 'take', which 0_theo_0 lacks; its labels: digit"):
        find_clips(tmp_path, "folder", held_out=rule, labels="{digit}_{}")


def test_a_known_corpus_is_split_by_its_speakers_or_by_itself(tmp_path: Path) -> None:
    for speaker in ("p225", "p226"):
        put(tmp_path / "VCTK-Corpus-0.92" / "wav48_silence_trimmed" / speaker, f"{speaker}_001_mic2.flac")
    (tmp_path / "VCTK-Corpus-0.92" / "txt").mkdir()
    clips = find_clips(tmp_path, "vctk", held_out=HeldOut(label="speaker", values=("p226",)))
    assert {clip.speaker: clip.split for clip in clips} == {"p225": "train", "p226": "test"}
    with pytest.raises(ValueError, match="sc09 comes with a split of its own"):
        find_clips(tmp_path, "sc09", held_out=HeldOut(label="speaker", share=0.1))
    for options in ({"labels": "{a}"}, {"metadata": tmp_path / "a.csv"}, {"speakers": True}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is for plain folders; vctk names"):
            find_clips(tmp_path, "vctk", held_out=0.1, **options)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "expected a share, a label and a share, or a label and its values"),
        ({"label": "take"}, "expected a share, a label and a share"),
        ({"share": 0.1, "label": ""}, "expected a share, a label and a share"),
        ({"values": ("0",)}, "expected a share, a label and a share"),
        ({"share": 0.1, "label": "take", "values": ("0",)}, "expected a share, a label and a share"),
        ({"share": 1.0}, "held_out is 1.0; expected a share from 0 to under 1"),
        ({"share": float("nan"), "label": "take"}, "held_out is nan; expected a share"),
        ({"label": "take", "values": "01"}, "held_out is by the values '01'; expected a tuple of texts"),
        ({"label": "take", "values": ("0", "")}, "none of them empty"),
    ],
)
def test_a_contradictory_rule_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HeldOut(**rule)


CLIPS = ("ann/one.wav", "bob/two.wav", "bob/three.flac")

TABLES = {
    "lines": ('one|Printing, 1\ntwo|"Quoted\n\nthree|Drei: ä\n', ("Printing, 1", '"Quoted', "Drei: ä")),
    "normalised": ("ann/one|1|One\ntwo.wav|2|Two\nthree|3|\n", ("One", "Two", "3")),
    "csv": (
        'name,text\nwavs/bob/two.wav,"Two, ""2"""\n"one"," 1 "\n./three,"3\nlines"\n',
        ("1", 'Two, "2"', "3\nlines"),
    ),
    "tabs": ('name\ttext\none\t"He said, ""1"""\ntwo\t2"\nthree\t3, 3\n', ('He said, "1"', '2"', "3, 3")),
    "tabs and no header": ('one\t"1 | 1"\ntwo\t2;"\nthree\t3, 3\n', ('"1 | 1"', '2;"', "3, 3")),
    "semicolons": ('name;text\none;"1; 1"\ntwo;2\nthree;3, 3\n', ("1; 1", "2", "3, 3")),
    "header and pipes": ("name|text\none|1\ntwo|2\nthree|3\n", ("1", "2", "3")),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("kind", TABLES)
def test_texts_come_from_a_table(tmp_path: Path, kind: str, ends: str, mark: bytes) -> None:
    put(tmp_path, *CLIPS)
    (tmp_path / "ann" / "one.txt").write_text("not this")
    text, expected = TABLES[kind]
    (tmp_path / "metadata.csv").write_bytes(mark + text.replace("\n", ends).encode())
    notes: list[str] = []
    table = tmp_path / "metadata.csv"
    clips = find_clips(tmp_path, "folder", held_out=0.1, metadata=table, note=notes.append)
    assert {Path(clip.name).name: clip.text for clip in clips} == dict(
        zip(("one", "two", "three"), expected, strict=True)
    )
    assert not notes


def test_a_table_has_labels_and_a_note_says_what_has_no_partner(tmp_path: Path) -> None:
    put(tmp_path, *CLIPS, "bob/four.wav")
    (tmp_path / "bob" / "four.txt").write_text("four, beside it")
    rows = "".join(f"eve,extra{index},x,\n" for index in range(5))
    (tmp_path / "t.csv").write_text(f"speaker,name,text,mood\nann,one.wav,1,\nbob,two,2,glad\nbob,three,,sad\n{rows}")
    notes: list[str] = []
    table = tmp_path / "t.csv"
    clips = find_clips(tmp_path, "folder", held_out=0.1, labels="{}/{word}", metadata=table, note=notes.append)
    assert labels_of(clips) == {
        "ann/one": {"word": "one", "speaker": "ann"},
        "bob/two": {"word": "two", "speaker": "bob", "mood": "glad"},
        "bob/three": {"word": "three", "speaker": "bob", "mood": "sad"},
        "bob/four": {"word": "four"},
    }
    assert {clip.name: clip.text for clip in clips}["bob/four"] == "four, beside it"
    unknown = "rows without a recording: 5 (extra0, extra1, extra2, ...)"
    assert notes == [f"{table}: {unknown}; recordings without a row: 1 (bob/four.wav)"]


def test_the_first_mark_of_a_header_separates_the_columns(tmp_path: Path) -> None:
    for header, row in (("name,text;note", "a,b;c"), ("name;text,note", "a;b,c"), ('"name"\ttext|note', 'a\t"b"')):
        (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
        (found,) = read_metadata(tmp_path / "t.csv")
        assert found.name == "a"
        assert [*found.labels.values()] == [re.split(r"[,;\t]", row, maxsplit=1)[1].strip('"')]


def test_a_name_may_have_a_comma_before_the_bar(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('one, two|"three"\n')
    assert [(row.name, row.text) for row in read_metadata(tmp_path / "t.csv")] == [("one, two", '"three"')]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "t.csv is empty; expected a row for each clip"),
        (b"name,text\n", "t.csv has a header and no rows; expected a row for each clip"),
        (b"one;1\n", "the first line is 'one;1'; expected a header with name, or lines name|text"),
        (b"one|1\ntwo\n", "line 2 is 'two'; expected name|text or name|text|normalised text"),
        (b"one|1|1|1\n", "line 1 is 'one|1|1|1'; expected name|text or"),
        (b"|text\n", "line 1 is '|text'; expected name|text"),
        (b"one,1\n", "the first line is 'one,1'; expected a header with name, or lines name|text"),
        (b"name,text\none,1,2\n", "line 2 is 'one,1,2'; expected name,text"),
        (b"name,text\n,1\n", "line 2 is ',1'; expected name,text"),
        (b"name,text,text\none,1,2\n", "the header is 'name,text,text'; expected another name for each column"),
        (b"name,text,\none,1,2\n", "the header is 'name,text,'; expected another name"),
        (b'name,text\none,"1\n', "line 2 is not CSV (unexpected end of data)"),
        (b"one|caf\xe9\n", "t.csv is not text in UTF-8 (invalid continuation byte at byte 7); convert it"),
        (b"eleven|11\n", "no row names a recording; the first row is for 'eleven', not 'a/one.wav'"),
        (b"one|1\none.wav|1\n", "'one' names a/one.wav and b/one.wav; write folder and suffix"),
        (b"a/one|1\na/one.wav|1\n", "the rows 'a/one' and 'a/one.wav' name a/one.wav; drop one"),
        (b"name,set\na/one,1\n", "t.csv has a column 'set', and so has the name of "),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path: Path, table: bytes, message: str) -> None:
    put(tmp_path, "a/one.wav", "b/one.wav")
    (tmp_path / "t.csv").write_bytes(table)
    with pytest.raises(ValueError, match=re.escape(message)):
        find_clips(
            tmp_path, "folder", held_out=0.1, labels="{set}/{}", metadata=tmp_path / "t.csv", note=lambda message: None
        )


def test_a_row_of_the_whole_path_is_for_that_file(tmp_path: Path) -> None:
    put(tmp_path, "one.wav", "deep/one.wav")
    (tmp_path / "t.csv").write_text("one|top\ndeep/one|deep\n")
    clips = find_clips(tmp_path, "folder", held_out=0.1, metadata=tmp_path / "t.csv")
    assert {clip.name: clip.text for clip in clips} == {"one": "top", "deep/one": "deep"}


def test_labels_come_back_from_a_dataset_and_from_memory_alike(tmp_path: Path) -> None:
    put(
        tmp_path / "in",
        *(f"{digit}_{speaker}_{take}.wav" for digit in "37" for speaker in ("jo", "al") for take in "01"),
    )
    rule, pattern = HeldOut(label="take", values=("0",)), "{digit}_{speaker}_{take}"
    clips = find_clips(tmp_path / "in", "folder", held_out=rule, labels=pattern)
    prepare_dataset(clips, tmp_path / "out", PrepareConfig(), found={"labels": pattern})
    dataset = PreparedDataset(tmp_path / "out")
    assert {clip.name: dict(clip.labels) for clip in dataset.clips} == labels_of(clips)
    assert dataset.clips[0].labels == {"digit": "3", "speaker": "al", "take": "0"}
    assert dataset.clips[0].speaker == "al"
    assert len({*dataset.clips, *dataset.clips}) == 8, "clips can be members of sets"
    assert dataset.manifest.found == {"labels": pattern}
    loaded = load_folder(tmp_path / "in", held_out=rule, labels=pattern)
    for split, members in zip(("train", "test"), loaded, strict=True):
        assert [(clip.name, clip.labels) for clip in members] == [
            (clip.name, clip.labels) for clip in dataset.split(split)
        ]


def test_other_labels_begin_a_half_made_dataset_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in", "3_al.wav", "7_jo.wav", "9_jo.wav")

    def find(pattern: str) -> list[Recording]:
        return find_clips(tmp_path / "in", "folder", held_out=0.1, labels=pattern)

    def interrupt(recordings: int) -> None:
        if recordings:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(find("{digit}_{name}"), tmp_path / "out", PrepareConfig(), progress=interrupt)
    done: list[int] = []
    with pytest.warns(UserWarning, match="it begins anew"):
        prepare_dataset(find("{digit}_{speaker}"), tmp_path / "out", PrepareConfig(), progress=done.append)
    assert done[0] == 0
    assert {clip.speaker for clip in PreparedDataset(tmp_path / "out").clips} == {"al", "jo"}


def test_a_dataset_without_other_labels_is_written_as_before(speech_folder: Path, tmp_path: Path) -> None:
    prepare_dataset(find_clips(speech_folder, "folder", held_out=0.3, speakers=True), tmp_path / "d", PrepareConfig())
    assert "labels" not in (tmp_path / "d" / "index.jsonl").read_text()
    assert PreparedDataset(tmp_path / "d").clips[0].labels == {"speaker": "ann"}


def test_prepare_takes_labels_and_metadata(wavenet, tmp_path: Path) -> None:
    put(tmp_path / "in", *(f"{digit}_theo_{take}.wav" for digit in range(2) for take in range(3)))
    (tmp_path / "t.csv").write_text("name,text\n0_theo_0,zero\n5_theo_0,five\n")
    options = ("--labels", "{digit}_{speaker}_{take}", "--held-out", "take=0,1", "--metadata", tmp_path / "t.csv")
    result = wavenet("prepare", tmp_path / "in", tmp_path / "out", *options)
    assert result.status == 0, result.err
    assert "rows without a recording: 1 (5_theo_0); recordings without a row: 5 (0_theo_1.wav, " in result.err
    assert "test: 4 clips" in result.out
    assert "labels and their values: digit (2), speaker (1), take (3)" in result.out
    dataset = PreparedDataset(tmp_path / "out")
    assert dataset.clips[0].text == "zero"
    assert dataset.manifest.found["held_out"] == "take=0,1"
    by_digit = wavenet("prepare", tmp_path / "in", tmp_path / "two", *options[:2], "--held-out", "digit:0.5")
    assert by_digit.status == 0, by_digit.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labels", "{word}_{speaker}/{take}"), "--labels is '{word}_{speaker}/{take}'; "),
        (("--labels", "{word"), "--labels is '{word'; expected kinds of label in braces"),
        (("--labels", "{speaker}/{take}", "--speakers"), "--labels is '{speaker}/{take}' beside --speakers; leave one"),
        (("--metadata", "none.csv"), "none.csv: No such file"),
        (("--corpus", "sc09", "--labels", "{word}"), "--labels is for plain folders"),
        (
            ("--held-out", "take:0.1", "--speakers"),
            "--held-out is by the label 'take', which ann/ann0 lacks; its labels",
        ),
        (("--held-out", "speaker=eve", "--speakers"), "--held-out is by the speaker 'eve', which no clip has"),
        *(
            (
                ("--held-out", rule),
                f"--held-out is {rule}; expected a share from 0 to under 1 such as 0.1, or of a label",
            )
            for rule in ("", "much", "take", "take:", ":0.1", "take:much", "take:2", "take=", "take=0,,1", "=1", "nan")
        ),
    ],
)
def test_prepare_says_in_one_line_what_is_wrong(
    wavenet, speech_folder: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    wavenet("prepare", speech_folder, tmp_path / "out", *options).fails_with(message)
    assert {path.name for path in tmp_path.iterdir()} == {"speech"}, "nothing is written"
