"""The report, as a browser shows it: sound plays, pictures are there, nothing is asked of a network."""

import base64
import html
import io
import json
import re
import shlex
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
import soundfile
import torch

from tests.browser import contrast, rgb, show
from tests.conftest import command, small_config, tone, write_speech
from wavenet import WaveNet
from wavenet.data import PreparedDataset, to_int16
from wavenet.data.dataset import checksum
from wavenet.network import ConditioningConfig, GaussianMixture, LogMelConfig
from wavenet.reporting.plots import _BLUE, _FAINT, _ORANGE
from wavenet.training import load_recipe

HOSTILE = "<script>document.title='caught'</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with speech, the dataset `data` and the run `run` made of it, and the run's report: for reading only."""
    folder = tmp_path_factory.mktemp("made")
    speech = write_speech(folder)
    for path in [*speech.rglob("*.wav")]:
        path.with_suffix(".txt").write_text(f"{path.stem} says {HOSTILE} & more")
    (speech / "bob").rename(speech / "b&b")
    assert command("prepare", speech, folder / "data", "--speakers", "--held-out", 0.4) == 0
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'dataset = "{folder / "data"}"\nrun = "{folder / "run"}"\n[model]\ndilations = [2, 4, 8]\n'
        "residual_channels = 6\ngate_channels = 10\nskip_channels = 7\nhead_channels = 9\nspeaker_channels = 2\n"
        "[train]\nsteps = 6\nwindow = 200\nevaluation_seconds = 0.2\nevaluate_every = 2\nlog_every = 1\n"
    )
    assert command("train", recipe) == 0
    assert command("report", folder / "run", "-o", folder / "report.html", "--clips", 2, "--seconds", 0.3) == 0
    return folder


@pytest.fixture
def page(made: Path) -> Path:
    return made / "report.html"


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to change."""
    return shutil.copytree(made / "data", tmp_path / "data")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, to change."""
    return shutil.copytree(made / "run", tmp_path / "run")


PLAY = """
const [done] = [arguments[arguments.length - 1]];
Promise.all([...document.querySelectorAll("audio")].map(async audio => {
    await audio.play();
    await new Promise(heard => audio.ontimeupdate = () => { if (audio.currentTime > 0) heard(); });
    audio.pause();
    return audio.duration;
})).then(done, error => done(String(error)));
"""
PICTURES = """
const done = arguments[arguments.length - 1];
const images = [...document.querySelectorAll("svg image")].map(image => image.getAttribute("xlink:href"));
Promise.all(images.map(async source => { const i = new Image(); i.src = source; await i.decode(); return i.width; }))
    .then(widths => done([widths, [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width),
                          [...document.querySelectorAll("svg")].map(svg => svg.ariaLabel)]),
          error => done(String(error)));
"""


HEIGHTS = """
return [...document.querySelectorAll("svg text")].map(text => {
    const scale = text.getScreenCTM();
    return Math.hypot(scale.a, scale.b) * parseFloat(getComputedStyle(text).fontSize);
});
"""


def test_players_play_and_pictures_render_without_a_word_on_the_console(browser, page: Path) -> None:
    show(browser, page, 1200)
    durations = browser.execute_async_script(PLAY)
    assert isinstance(durations, list), durations
    assert len(durations) == 2 * 3 + 2, "two clips in three ways, and two speakers from silence"
    assert all(0.25 < seconds < 1 for seconds in durations)
    widths, shown, labels = browser.execute_async_script(PICTURES)
    assert len(shown) == 8 + 2, "a picture for each sound, the curves and the cone"
    assert len(widths) == 8
    assert all(width > 50 for width in [*widths, *shown])
    assert all(labels), "each says what it shows"
    assert browser.get_log("browser") == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith("data:") for name in asked)


def test_its_button_opens_a_page_that_is_ready_to_speak(browser, page: Path) -> None:
    show(browser, page, 1200)
    browser.find_element("id", "let-it-speak").click()
    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
    for _ in range(100):
        said = browser.execute_script("return document.querySelector('#status')?.innerText")
        if said == "Ready.":
            break
        time.sleep(0.1)
    time.sleep(0.3)
    assert browser.execute_script("return document.querySelector('#status').innerText") == "Ready."
    browser.switch_to.default_content()


def test_names_and_texts_of_clips_are_shown_as_they_are(browser, page: Path) -> None:
    show(browser, page, 1200)
    assert browser.title == "run: a WaveNet"
    text = browser.execute_script("return document.body.innerText")
    assert HOSTILE in text
    assert "b&b" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_has_contrast(browser, page: Path, scheme: str) -> None:
    show(browser, page, 360, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    colours = browser.execute_script(
        "const style = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(['paper', 'ink', 'quiet', 'card', 'mark'].map("
        "name => [name, style.getPropertyValue('--' + name).trim()]));"
    )
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    channels = [int(value) for value in re.findall(r"\d+", background)[:3]]
    assert channels == rgb(colours["paper"])
    assert (sum(channels) > 600) == (scheme == "light")
    for ink in ("ink", "quiet", "mark"):
        for ground in ("paper", "card"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}, WCAG 2 AA"
    for ground in ("paper", "card"):
        for line in (_BLUE, _ORANGE, _FAINT):
            assert contrast(line, colours[ground]) >= 3, f"{line} in pictures on {ground}, WCAG 2 AA for graphics"
    heights = browser.execute_script(HEIGHTS)
    assert min(heights) >= 9, "words in pictures can be read"
    picture = browser.execute_script("return getComputedStyle(document.querySelector('svg text')).fill")
    assert [int(value) for value in re.findall(r"\d+", picture)[:3]] == rgb(colours["ink"])


def test_the_keyboard_reaches_all_and_headings_make_an_outline(browser, page: Path) -> None:
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    show(browser, page, 1200)
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('a, summary, audio, [tabindex]')].filter(e => e.checkVisibility())"
        ".map((e, place) => { e.dataset.place = place; return place; })"
    )
    body, reached = browser.find_element("tag name", "body"), []
    for _ in range(6 * len(wanted)):  # a player has stops of its own
        body.send_keys(keys.TAB)
        reached.append(browser.execute_script("return document.activeElement.dataset.place"))
    assert browser.execute_script("return document.querySelector('[data-place=\"0\"]').className") == "skip"
    assert reached[0] == "0", "the way past the navigation comes first"
    assert {int(place) for place in reached if place is not None} == set(wanted)
    levels = [int(one.tag_name[1]) for one in browser.find_elements("css selector", "h1, h2, h3, h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    unnamed = "return [...document.querySelectorAll('audio, [role=region], pre')].filter(e => !e.ariaLabel).length"
    assert browser.execute_script(unnamed) == 0


def test_the_commands_on_the_page_give_its_figures(
    wavenet, made: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, run = page.read_text("utf-8"), made / "run"
    block = re.search(r'aria-label="Commands">(.*?)</pre>', text, re.DOTALL)
    assert block is not None
    commands = [shlex.split(html.unescape(line)) for line in block[1].strip().splitlines()]
    assert [command[1] for command in commands[:-1]] == ["train", "evaluate", "generate", "inspect"]
    monkeypatch.chdir(tmp_path)
    made = [wavenet(*command[1:]) for command in commands[:-1]]
    assert [result.status for result in made] == [0] * 4, [result.err for result in made]
    again = Path(f"{run}-again") / "model.safetensors"
    assert again.read_bytes() == (run / "model.safetensors").read_bytes(), "the same model, to the bit"
    shown = re.search(r'<th scope="row">all</th><td>[\d.]+</td>\s*<td[^>]*>([\d.]+)</td>', text)
    assert shown is not None
    assert shown[1] in made[1].out
    assert Path("out.wav").read_bytes() == heard(text, "As ann")[0]


def test_what_plays_as_the_original_is_the_clip(made: Path, page: Path) -> None:
    text, prepared = page.read_text("utf-8"), PreparedDataset(made / "data")
    headings = re.findall(r"<h3><bdi>([^<]*)</bdi>", text)
    clips = {clip.name: clip for clip in prepared.clips}
    players = heard(text, "The original")
    assert len(players) == 2
    for name, player in zip(headings, players, strict=False):
        samples, rate = soundfile.read(io.BytesIO(player), dtype="int16")
        assert rate == prepared.sample_rate
        assert samples.tolist() == to_int16(clips[html.unescape(name)].read()).tolist()


def heard(text: str, title: str) -> list[bytes]:
    """The sound files of the page's players of that title."""
    found = re.findall(rf'src="data:audio/wav;base64,([^"]*)" aria-label="{title}:', text)
    return [base64.b64decode(encoded) for encoded in found]


def test_the_page_stands_alone_and_says_what_it_is_about(made: Path, page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "sees 8 of the last 15 samples" in text, "the holes are named"
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names))
    recipe = re.search(r'aria-label="Recipe">(.*?)</pre>', text, re.DOTALL)
    assert recipe is not None
    settings = tmp_path / "again.toml"
    settings.write_text(recipe[1].replace("&#34;", '"'), "utf-8")
    again, first = load_recipe(settings).to_dict(), load_recipe(made / "recipe.toml").to_dict()
    again["model"]["speakers"] = first["model"]["speakers"]
    assert again == first, "the recipe on the page is the one it was trained by"


def test_a_vocoder_is_heard_beside_its_references(wavenet, dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = small_config(
        features=LogMelConfig(bins=20, hop=100, window=256),
        conditioning=ConditioningConfig(channels=3, scales=(10, 10)),
        distribution=GaussianMixture(),
    )
    WaveNet(config).save_pretrained(tmp_path / "vocoder.safetensors")
    model, output = tmp_path / "vocoder.safetensors", tmp_path / "vocoder.html"
    assert wavenet("report", model, "-o", output, "--dataset", dataset, "--clips", 1).status == 0
    text = output.read_text("utf-8")
    assert [name in text for name in ("Copied by the model", "Griffin-Lim", "µ-law", "The original")] == [True] * 4
    assert text.count("<audio") == 4
    row = r'</th><td>[\d.]+</td>\s*<td>([\d.]+)</td>\s*<td(?: class="best")?>([\d.]+)</td>\s*<td>([\d.]+)</td>'
    bold = re.search(row, text)
    assert bold is not None
    assert float(bold[2]) < float(bold[1]), "a class of 256 is likelier than a level of 65,536"
    assert ('class="best"' in bold[0]) == (float(bold[2]) < float(bold[3]))
    assert wavenet("report", model, "-o", output, "--force").status == 0, "without a dataset there is nothing to copy"
    assert "<audio" not in output.read_text("utf-8")


def test_refusals_are_one_line_and_write_nothing(wavenet, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "r.html"
    wavenet("report", run, "-o", tmp_path / "r.txt").fails_with("r.txt", ".html")
    wavenet("report", tmp_path, "-o", output).fails_with("holds no model.safetensors")
    wavenet("report", tmp_path / "missing.safetensors", "-o", output).fails_with("missing.safetensors")
    wavenet("report", run, "-o", output, "--clips", -1).fails_with("--clips is -1")
    wavenet("report", run, "-o", output, "--seconds", "nan").fails_with("--seconds is nan")
    wavenet("report", run, "-o", output, "--dataset", tmp_path / "none").fails_with("none: no such dataset")
    wavenet("report", tmp_path / "none", "-o", output).fails_with("none: no such model file")
    wavenet("report", run, "-o", output, "--temperature", -1).fails_with("temperature")
    metrics = (run / "metrics.jsonl").read_text()
    nan = '{"step": 1, "seconds": 1, "held_out_bits": NaN}'
    for broken in ("{", "[1]", '{"step": 1}', '{"step": 1, "seconds": 1, "held_out_bits": "x"}', nan, "\xff", ""):
        (run / "metrics.jsonl").write_bytes(metrics.encode() + broken.encode("latin-1") + b"\n")
        line = metrics.count("\n") + 1
        wavenet("report", run, "-o", output).fails_with(f"metrics.jsonl: line {line} is not a record of metrics")
    for option, value in (("--temperature", "nan"), ("--seed", 2**70), ("--seconds", 1e-9), ("--scored-seconds", -1)):
        wavenet("report", run, "-o", output, option, value).fails_with(option.removeprefix("--"))
    (run / "metrics.jsonl").write_text(metrics)
    (run / "recipe.json").write_text("{}")
    wavenet("report", run, "-o", output).fails_with("recipe.json is not a run's recipe")
    (run / "recipe.json").unlink()
    wavenet("report", run, "-o", output).fails_with("holds no recipe.json")
    assert not output.exists()


def test_what_cannot_be_seen_in_a_name_is_spelled_out(wavenet, dataset: Path, tmp_path: Path) -> None:
    index = dataset / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    for line in lines:
        line["text"] = "a\0b \u202e drow"
    index.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["index_sha256"] = checksum(dataset, ["index.jsonl"])
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    WaveNet(small_config()).save_pretrained(tmp_path / "m.safetensors")
    made = wavenet("report", tmp_path / "m.safetensors", "-o", tmp_path / "r.html", "--dataset", dataset, "--seconds",
                   0.01, "--scored-seconds", 0)  # fmt: skip
    assert made.status == 0, made.err
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "a\\x00b \\u202e drow" in text
    assert not {"\0", "\u202e"} & set(text)


def test_a_dataset_without_a_training_split_is_scored_beside_the_baselines_that_need_none(
    wavenet, speech_folder: Path, tmp_path: Path
) -> None:
    data, model = tmp_path / "data", tmp_path / "m.safetensors"
    assert wavenet("prepare", speech_folder, data, "--held-out", 0.999).status == 0
    WaveNet(small_config()).save_pretrained(model)
    made = wavenet("report", model, "-o", tmp_path / "r.html", "--dataset", data, "--clips", 0, "--seconds", 0.01)
    assert made.status == 0, made.err
    assert re.search(r"<td>\d\.\d+</td><td>-</td><td>8</td>", (tmp_path / "r.html").read_text("utf-8"))
    scored = json.loads(wavenet("evaluate", model, data, "--baselines", "--json").out)
    assert scored["linear_prediction"] < scored["uniform"] == 8
    assert "unigram" not in scored


def test_a_run_is_shown_while_it_writes_its_metrics(wavenet, run: Path, tmp_path: Path) -> None:
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 7, "trai')
    made = wavenet("report", run, "-o", tmp_path / "r.html", "--clips", 0, "--seconds", 0.01, "--scored-seconds", 1)
    assert made.status == 0, made.err


def test_several_datasets_and_speakers_are_shown_as_trained_on(wavenet, dataset: Path, tmp_path: Path) -> None:
    other = shutil.copytree(dataset, tmp_path / "more")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'run = "{tmp_path / "run"}"\n[[dataset]]\npath = "{dataset}"\n[[dataset]]\npath = "{other}"\n[model]\n'
        "dilations = [1, 2]\nresidual_channels = 4\ngate_channels = 4\nskip_channels = 4\nhead_channels = 4\n"
        '[train]\nsteps = 2\nwindow = 200\nevaluation_seconds = 0.2\nspeakers = ["b&b"]\n'
    )
    assert wavenet("train", recipe).status == 0
    output = tmp_path / "r.html"
    assert wavenet("report", tmp_path / "run", "-o", output, "--clips", 1, "--seconds", 0.1).status == 0
    text = output.read_text("utf-8")
    rows = re.findall(r'<th scope="row">([a-z][^<]*)</th>', text)
    assert rows == ["data, b&amp;b", "more, b&amp;b", "all"]
    assert text.count("<figcaption>The original<") == 2
    assert text.count("Checksum of ") == 2
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names)), "though both datasets hold the same clips"
    shutil.rmtree(other)
    short = ("-o", output, "--force", "--seconds", 0.1, "--clips", 0, "--scored-seconds", 0)
    made = wavenet("report", tmp_path / "run", *short)
    assert made.status == 0
    assert f"note: {other}: no such dataset" in made.err
    missing = f"These datasets were missing when this page was made, and are not counted: {other}."
    assert missing in output.read_text("utf-8")
    assert wavenet("report", tmp_path / "run", *short, "--dataset", dataset).status == 0
    assert missing in output.read_text("utf-8"), "what is scored has nothing to do with what was trained on"


def test_a_dataset_that_was_not_trained_on_does_not_stand_for_one_that_is_missing(
    wavenet, made: Path, dataset: Path, tmp_path: Path
) -> None:
    other, recipe = tmp_path / "ann", tmp_path / "recipe.toml"
    speech = shutil.copytree(made / "speech", tmp_path / "speech", ignore=lambda *_: ["b&b"])
    assert wavenet("prepare", speech, other, "--speakers", "--held-out", 0.4).status == 0
    recipe.write_text(
        f'run = "{tmp_path / "run"}"\n[[dataset]]\npath = "{dataset}"\n[[dataset]]\npath = "{other}"\n[model]\n'
        "dilations = [1, 2]\nresidual_channels = 4\ngate_channels = 4\nskip_channels = 4\nhead_channels = 4\n"
        '[train]\nsteps = 2\nwindow = 200\nevaluation_seconds = 0.2\nspeakers = ["b&b"]\n'
    )
    assert wavenet("train", recipe).status == 0
    shutil.rmtree(dataset)
    assert wavenet("report", tmp_path / "run", "-o", tmp_path / "r.html", "--seconds", 0.01).status == 0
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "Clips trained on" not in text
    assert "This page was made without a dataset" in text


def test_a_model_kept_by_a_run_is_shown_with_the_run_up_to_then(wavenet, run: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bits = {one["step"]: one["held_out_bits"] for one in records if one["step"] and "held_out_bits" in one}
    shutil.copy(run / "best.safetensors", run / "model-00000004.safetensors")
    for name, step in (("model", 6), ("best", min(bits, key=bits.__getitem__)), ("model-00000004", 4)):
        output = tmp_path / f"{name}.html"
        made = wavenet("report", run / f"{name}.safetensors", "-o", output, "--clips", 0, "--seconds", 0.01)
        assert made.status == 0, made.err
        text = output.read_text("utf-8")
        assert f"<title>run, {name}: a WaveNet</title>" in text
        assert f"<dt>Steps</dt><dd>{step} of 6</dd>" in text
        assert f"last evaluation</dt><dd>{bits[step]:.3f}</dd>" in text
        assert "Clips trained on" in text


def test_a_model_that_is_not_the_runs_is_not_taken_for_one(wavenet, run: Path, tmp_path: Path) -> None:
    arguments = ("-o", tmp_path / "r.html", "--clips", 0, "--seconds", 0.01)
    shutil.copy(run / "model.safetensors", run / "other.safetensors")
    assert wavenet("report", run / "other.safetensors", *arguments).status == 0
    assert "<dt>Steps</dt>" not in (tmp_path / "r.html").read_text("utf-8"), "who trained it is not known"
    WaveNet(small_config()).save_pretrained(run / "model.safetensors")
    for path in (run, run / "model.safetensors"):
        wavenet("report", path, *arguments, "--force").fails_with("not one of the run's models", "recipe.json")


def test_speakers_that_are_vectors_have_no_dataset(wavenet, dataset: Path, tmp_path: Path) -> None:
    WaveNet(small_config(speaker_channels=3)).save_pretrained(tmp_path / "m.safetensors")
    arguments = ("report", tmp_path / "m.safetensors", "-o", tmp_path / "r.html", "--seconds", 0.01)
    wavenet(*arguments, "--dataset", dataset).fails_with("takes speakers as vectors", "without a dataset")
    assert wavenet(*arguments).status == 0
    assert "The model takes speakers as vectors" in (tmp_path / "r.html").read_text("utf-8")


def test_silence_and_the_shortest_of_clips_have_pictures(wavenet, tmp_path: Path) -> None:
    for name, seconds in (("a", 0.3), ("b", 0.3), ("c", 0.0011)):
        (tmp_path / "clips").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "clips" / f"{name}.wav", tone(seconds) * (name == "a"), 16000)
    assert wavenet("prepare", tmp_path / "clips", tmp_path / "data", "--held-out", 0.9).status == 0
    WaveNet(small_config()).save_pretrained(tmp_path / "m.safetensors")
    made = wavenet("report", tmp_path / "m.safetensors", "-o", tmp_path / "r.html", "--dataset", tmp_path / "data",
                   "--clips", 3, "--seconds", 0.001, "--scored-seconds", 0)  # fmt: skip
    assert made.status == 0, made.err
