"""The page in which a model speaks, as a browser shows it from disk: the same sound as here, and nothing is loaded."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch

from tests.browser import contrast, show
from tests.conftest import needs_native, small_model, tone
from wavenet import EngineOptions, WaveNet, generate, write_audio
from wavenet.data import encode_audio, to_int16
from wavenet.network import ConditioningConfig, LogMelConfig
from wavenet.page import SpeakingModel, build_page

INT8 = EngineOptions("native", weights="int8")
SAID = "return document.querySelector('#status').innerText"


def vocoder() -> WaveNet:
    features = LogMelConfig(bins=10, hop=40, window=128)
    conditioning = ConditioningConfig(projection="frames", channels=8, context_channels=8)
    return small_model(sample_rate=8000, features=features, conditioning=conditioning).float()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "speak.html"
    recording = torch.from_numpy(tone(0.5, rate=8000)).float()
    models = [
        SpeakingModel(model=WaveNet.from_pretrained("prompts"), name="prompts", seconds=1.0),
        SpeakingModel(
            model=WaveNet.from_pretrained("digits"), name="digits", does="says <digits>", licence="CC BY-SA 4.0"
        ),
        SpeakingModel(model=vocoder(), name="small", example=recording, example_name="a tone.wav"),
    ]
    path.write_text(build_page(models, "Models & speech"), "utf-8")
    return path


def choose(browser, name: str) -> None:
    for tab in browser.find_elements("css selector", "#models-choice label"):
        if tab.text == name:
            tab.click()
            return wait_for(browser, "idle")
    raise AssertionError(f"there is no model {name}")


def wait_for(browser, state: str) -> None:
    for _ in range(600):
        found = browser.execute_script("return speaking.state")
        if found == state:
            return
        assert found != "failed", browser.execute_script(SAID)
        time.sleep(0.1)
    raise AssertionError(f"the page is {found}; expected {state}: {browser.execute_script(SAID)}")


def until(condition: Callable[[], bool], expected: str) -> None:
    """Wait up to ten seconds for a condition."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"it did not come to this: {expected}")


def wait_to_hear(browser, words: str) -> None:
    until(lambda: words in browser.execute_script(SAID), f"the page says {words!r}")


def write(browser, field: str, text: object) -> None:
    element = browser.find_element("id", field)
    element.clear()
    element.send_keys(str(text))


def speak(browser) -> torch.Tensor:
    browser.find_element("id", "speak").click()
    wait_for(browser, "done")
    return torch.tensor(browser.execute_script("return [...speaking.samples]"))


@needs_native
def test_a_second_from_seed_0_is_that_of_generate_and_nothing_is_loaded(browser, page: Path) -> None:
    show(browser, page, 1200)
    assert browser.title == "Models & speech"
    choose(browser, "prompts")
    made = speak(browser)
    expected = generate(WaveNet.from_pretrained("prompts"), 16000, seed=0, temperature=0.9, engine=INT8)[0]
    assert torch.equal(made, expected)
    assert browser.execute_script("return speaking.realTime") > 0
    assert browser.get_log("browser") == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith(("data:", "blob:")) for name in asked)


@needs_native
def test_a_vocoder_copies_its_example(browser, page: Path) -> None:
    show(browser, page, 1200)
    choose(browser, "small")
    made, model = speak(browser), vocoder()
    stored = encode_audio(torch.from_numpy(tone(0.5, rate=8000)).float(), 8000, "WAV")
    waveform = torch.from_numpy(soundfile.read(io.BytesIO(stored), dtype="float32")[0])
    features = model.log_mel(waveform[None])[0]
    expected = generate(model, len(waveform), features=features, seed=0, temperature=0.9, engine=INT8)[0]
    assert len(made) == len(waveform)
    assert torch.equal(made[:1000], expected[:1000])


def test_digits_are_said_and_saved(browser, page: Path, tmp_path: Path) -> None:
    show(browser, page, 1200)
    choose(browser, "digits")
    write(browser, "say", "7:0.3 :0.1 9:0.3")
    made = speak(browser)
    assert len(made) == round(0.7 * 8000)
    assert 0.01 < float(made[:2400].square().mean().sqrt()) < 0.5
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element("id", "save").click()
    saved = tmp_path / "digits-seed0.wav"
    until(saved.exists, f"{saved} is written")
    samples, rate = soundfile.read(saved, dtype="int16")
    assert rate == 8000
    assert torch.equal(torch.from_numpy(samples), to_int16(made))


MISTAKES = (
    ("digits", "say", "seven:0.4", "seven"),
    ("digits", "say", "7", "no time"),
    ("digits", "say", "", "nothing to say"),
    ("digits", "seed", "1.5", "whole number"),
    ("prompts", "seconds", "0", "length"),
)


@pytest.mark.parametrize(("model", "field", "text", "words"), MISTAKES)
def test_mistakes_are_told_in_a_sentence(browser, page: Path, model: str, field: str, text: str, words: str) -> None:
    show(browser, page, 1200)
    choose(browser, model)
    write(browser, field, text)
    browser.find_element("id", "speak").click()
    assert words in browser.execute_script(SAID)
    assert browser.execute_script("return [speaking.state, speaking.samples.length]") == ["idle", 0]


def test_a_recording_is_taken_and_what_is_no_sound_is_refused(browser, page: Path, tmp_path: Path) -> None:
    show(browser, page, 1200)
    choose(browser, "small")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, and nothing else")
    browser.find_element("id", "file").send_keys(str(broken))
    wait_to_hear(browser, "broken.wav")
    write_audio(tmp_path / "own.wav", torch.from_numpy(tone(0.3, rate=16000)).float(), 16000)
    browser.find_element("id", "file").send_keys(str(tmp_path / "own.wav"))
    until(lambda: "own.wav" in browser.find_element("id", "recording-name").text, "the page has own.wav")
    assert len(speak(browser)) == pytest.approx(0.3 * 8000, abs=2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("model", ["prompts", "digits", "small"])
def test_it_fits_a_phone_and_has_contrast(browser, page: Path, model: str, scheme: str) -> None:
    show(browser, page, 390, scheme)
    choose(browser, model)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    colours = browser.execute_script(
        "const style = getComputedStyle(document.documentElement);"
        "return Object.fromEntries(['paper', 'ink', 'quiet', 'card', 'mark'].map("
        "name => [name, style.getPropertyValue('--' + name).trim()]));"
    )
    for ink in ("ink", "quiet", "mark"):
        for ground in ("paper", "card"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, f"{ink} on {ground}, WCAG 2 AA"
    unnamed = (
        "return [...document.querySelectorAll('canvas, audio, input, select')]"
        ".filter(e => !e.ariaLabel && !e.labels?.length).length"
    )
    assert browser.execute_script(unnamed) == 0


KINDS = {"word": ("yes", "no", "so"), "7": ("glad", "sad"), "": ("a", "b")}  # JavaScript puts a key like "7" first


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of models that are seldom met."""
    path = tmp_path_factory.mktemp("strange") / "strange.html"
    models = [
        SpeakingModel(model=small_model(labels=KINDS, speaker_channels=3).float(), name="kinds", seconds=0.001),
        SpeakingModel(model=small_model(sample_rate=768000).float(), name="fast", seconds=0.1),
        SpeakingModel(
            model=vocoder(), name="small", example=torch.from_numpy(tone(0.5, rate=8000)), example_name="a.wav"
        ),
    ]
    path.write_text(build_page(models, "Strange"), "utf-8")
    return path


@needs_native
def test_labels_keep_the_order_of_their_kinds(browser, strange: Path) -> None:
    show(browser, strange, 1200)
    wait_for(browser, "idle")
    for select, name in zip(browser.find_elements("css selector", "#labels select"), ("so", "sad", "b"), strict=True):
        select.send_keys(name)
    labels = {"word": "so", "7": "sad", "": "b"}
    made = speak(browser)
    model = small_model(labels=KINDS, speaker_channels=3).float()
    assert torch.equal(made, generate(model, 1600, labels=labels, seed=0, temperature=0.9, engine=INT8)[0])


def test_sound_arrives_although_the_engines_memory_grows(browser, strange: Path) -> None:
    show(browser, strange, 1200)
    choose(browser, "fast")
    assert len(speak(browser)) == 76800


def test_a_minute_of_sound_is_described(browser, strange: Path) -> None:
    show(browser, strange, 1200)
    minute = "page.picture.begin(24000, 60, []); page.picture.add(new Float32Array(1440000).fill(0.5), []);"
    browser.execute_script(f"{minute} page.picture.finish()")
    waveform = browser.find_element("id", "waveform").get_attribute("aria-label")
    assert waveform == "Waveform: 60.0 seconds, loudest at 0.50 of full scale"


def test_models_are_switched_while_they_speak(browser, strange: Path) -> None:
    show(browser, strange, 1200)
    presses = (
        "const press = (element) => element.click(), tabs = document.querySelectorAll('#models-choice input');"
        "for (const tab of tabs) { press(document.querySelector('#speak')); press(tab); }"
    )
    for _ in range(5):
        browser.execute_script(presses)
        time.sleep(0.05)
    wait_for(browser, "idle")
    assert browser.execute_script("return [speaking.model, speaking.samples.length]") == ["small", 0]
    assert len(speak(browser)) == 4000
    assert browser.get_log("browser") == []


DAMAGES = (
    (lambda text: text[: len(text) // 2], "not whole"),
    (lambda text: text[:-2000], "not whole"),
    (lambda text: text.replace('id="engine">AGFz', 'id="engine">!!!!'), "damaged"),
    (lambda text: text.replace('"example": "UklG', '"example": "!!!!'), "Example: a tone.wav"),
)


@pytest.mark.parametrize(("damage", "words"), DAMAGES, ids=["half", "its end", "the engine", "the example"])
def test_a_damaged_page_says_so(browser, tmp_path: Path, damage: Callable[[str], str], words: str) -> None:
    recording = torch.from_numpy(tone(0.5, rate=8000)).float()
    whole = build_page(
        [SpeakingModel(model=vocoder(), name="v", example=recording, example_name="a tone.wav")], "Damaged"
    )
    damaged = damage(whole)
    assert damaged != whole
    (tmp_path / "damaged.html").write_text(damaged, "utf-8")
    show(browser, tmp_path / "damaged.html", 1200)
    wait_to_hear(browser, words)
    browser.find_element("id", "speak").click()
    time.sleep(0.2)
    assert browser.execute_script("return window.speaking?.state") != "speaking"


def test_samples_that_are_no_numbers_are_refused(browser, page: Path, tmp_path: Path) -> None:
    show(browser, page, 1200)
    choose(browser, "small")
    sound = tone(0.5, rate=8000)
    sound[7] = float("nan")
    soundfile.write(tmp_path / "nan.wav", sound, 8000, subtype="FLOAT")
    browser.find_element("id", "file").send_keys(str(tmp_path / "nan.wav"))
    wait_to_hear(browser, "no numbers")


def test_what_a_model_is_called_is_text(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<digits>" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_refusals(wavenet, tmp_path: Path) -> None:
    small_model(speaker_channels=2).float().save_pretrained(tmp_path / "vectors.safetensors")
    output = tmp_path / "out.html"
    write_audio(tmp_path / "short.wav", torch.from_numpy(tone(0.1, rate=16000)).float(), 16000)
    write_audio(tmp_path / "silent.wav", torch.zeros(16000), 16000)
    for arguments, words in (
        ((tmp_path / "vectors.safetensors", "--format", "page", "-o", output), ("vectors", "names")),
        (("digits", "--format", "page", "-o", tmp_path / "out"), (".html",)),
        (("digits", "prompts", "-o", tmp_path / "out"), ("2 models", "--format page")),
        (("digits", "-o", tmp_path / "out", "--example", "x.wav"), ("--example",)),
        (("prompts", "--format", "page", "-o", output, "--example", "x.wav"), ("--example",)),
        (("digits", "-o", output), ("a folder", "--format page")),
        (("vocoder", "--format", "page", "-o", output, "--example", tmp_path / "none.wav"), ("none.wav",)),
        (("vocoder", "--format", "page", "-o", output, "--example", tmp_path / "short.wav"), ("short.wav", "0.2 to")),
        (("vocoder", "--format", "page", "-o", output, "--example", tmp_path / "silent.wav"), ("silent.wav",)),
    ):
        wavenet("export", *arguments).fails_with(*words)
    assert not output.exists()
    assert not (tmp_path / "out").exists()


def test_a_name_that_reorders_words_is_spelled_out(wavenet, tmp_path: Path) -> None:
    model = tmp_path / "\u202eevil" / "model.safetensors"
    model.parent.mkdir()
    small_model().float().save_pretrained(model)
    wavenet("export", model, "--format", "page", "-o", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text("utf-8")
    assert "<title>\\u202eevil: a WaveNet speaks</title>" in text
    assert "\u202e" not in text
