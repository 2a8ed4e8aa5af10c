"""Models that are told what to say and as whom: timed labels become features, and labels of a clip are summed."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.conftest import small_config, small_model, tone
from wavenet import TimedLabel, TrainConfig, Trainer, WaveNet, WaveNetConfig, generate, read_timed_labels
from wavenet.data import TensorClip
from wavenet.evaluation import condition_on, labels_of, score_symbols
from wavenet.network import ConditioningConfig, GaussianMixture, LogMelConfig, PredictionConfig, TimedLabelsConfig

HOP, RATE = 100, 16000
TOLD = {
    "features": LogMelConfig(bins=12, hop=HOP, window=256),
    "conditioning": ConditioningConfig(channels=3, scales=(10, 10)),
    "prediction": PredictionConfig(source="features", order=16, block=50),
    "distribution": GaussianMixture(components=2),
    "timed_labels": TimedLabelsConfig(names=("one", "two"), channels=4, hidden_channels=24),
    "speakers": ("ann", "bob"),
    "speaker_channels": 3,
}
SAID = (TimedLabel(0.0, 0.1, "one"), TimedLabel(0.15, 0.25, "two"))


def telling() -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(small_config(**TOLD)).eval()


def test_a_name_changes_the_frames_that_it_lasts_and_the_biases_that_see_them() -> None:
    """Impulse test: frame f lies at sample f * hop, so a label from t on is heard from there, and not before."""
    model = telling()
    other = (SAID[0], replace(SAID[1], name="one"))
    one, two = (model.condition(speaker="ann", timed_labels=labels) for labels in (SAID, other))
    assert one.features is not None
    assert two.features is not None
    changed = torch.nonzero((one.features - two.features).abs().sum(dim=1)[0]).flatten()
    assert changed.tolist() == list(range(round(0.15 * RATE / HOP), round(0.25 * RATE / HOP)))
    begin = -HOP
    biases = [model.biases(conditioning, begin, 5000) for conditioning in (one, two)]
    heard = torch.nonzero((biases[0] - biases[1]).abs().sum(dim=2)[0]).flatten() + begin
    reach = model.alignment.look_ahead * HOP
    assert 0.15 * RATE - reach <= int(heard.min()) <= 0.15 * RATE - reach + HOP
    assert 0.25 * RATE + reach - 2 * HOP <= int(heard.max()) < 0.25 * RATE + reach


def test_files_of_one_sentence_condition_alike(tmp_path: Path) -> None:
    grid = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    grid += '0\n0.25\n<exists>\n1\n"IntervalTier"\n"words"\n0\n0.25\n3\n'
    files = {
        "s.txt": "0\t0.1\tone\n0.15\t0.25\ttwo\n",
        "s.lab": "0 1000000 one\n1500000 2500000 two\n",
        "s.csv": "start,end,name\n0,0.1,one\n0.15,0.25,two\n",
        "s.TextGrid": grid + '0\n0.1\n"one"\n0.1\n0.15\n""\n0.15\n0.25\n"two"\n',
    }
    model = telling()
    expected = model.condition(speaker="bob", timed_labels=SAID).features
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        found = model.condition(speaker="bob", timed_labels=read_timed_labels(tmp_path / name)).features
        assert found is not None
        assert torch.equal(found, expected), name


def test_a_batch_of_labels_equals_its_rows_and_features_of_says_the_same() -> None:
    model, shorter = telling(), SAID[:1]
    batch = generate(model, speaker=["ann", "bob"], timed_labels=[SAID, shorter], seed=3)
    assert batch.shape == (2, model.alignment.frames(round(0.25 * RATE)) * HOP)
    alone = generate(model, speaker="bob", timed_labels=shorter, seed=4)
    torch.testing.assert_close(batch[1:, : alone.shape[1] - 3 * HOP], alone[:, : -3 * HOP], atol=1e-5, rtol=0)
    by_features = generate(model, speaker="bob", features=model.features_of(shorter, speaker="bob"), seed=4)
    assert torch.equal(by_features, alone)


def test_what_is_said_survives_the_model_file(tmp_path: Path) -> None:
    model = telling()
    model.save_pretrained(tmp_path / "model.safetensors")
    read = WaveNet.from_pretrained(tmp_path / "model.safetensors")
    assert read.config == model.config
    assert torch.equal(read.features_of(SAID, speaker="ann"), model.features_of(SAID, speaker="ann"))


def clips() -> list[TensorClip]:
    """Two words, a low tone and a high one, by two speakers; the words lie in the clips' middles."""
    made = []
    for number, (word, hertz) in enumerate((("one", 200.0), ("two", 1900.0)) * 2):
        waveform = np.concatenate([np.zeros(1600), tone(0.2, hertz=hertz, seed=number), np.zeros(1600)])
        labels, said = {"speaker": ("ann", "bob")[number // 2]}, (TimedLabel(0.1, 0.3, word),)
        made.append(TensorClip(torch.from_numpy(waveform).float() / 2, RATE, f"clip{number}", labels, said))
    return made


def test_training_teaches_the_acoustic_model_and_scores_what_evaluation_scores() -> None:
    config = TrainConfig(steps=150, batch_size=2, window=2000, compile="off", warmup_steps=1, learning_rate=1e-2)
    trainer = Trainer(telling(), clips(), clips(), replace(config, muon_learning_rate=0.05))
    batch = trainer.sampler.batch(0)
    expected = []
    for row, clip in enumerate(batch.clips):
        waveform = clip.read()
        conditioning = condition_on(trainer.model, clip, waveform, labels_of(trainer.model, clip))
        scores = score_symbols(trainer.model, trainer.model.encode(waveform[None]), conditioning)
        (places,) = torch.nonzero(batch.scored[row], as_tuple=True)
        expected.append(-scores.log_probs[0, places + int(batch.times[row]) + trainer.sampler.context].double())
    with torch.no_grad():
        loss = float(trainer.batch_loss(batch))
    assert loss == pytest.approx(float(torch.cat(expected).mean()) / math.log(2), abs=2e-4)
    trainer.run()
    low, high = (trainer.model.features_of([TimedLabel(0, 0.2, word)], speaker="ann") for word in ("one", "two"))
    assert float((low - high)[:3].mean()) > 2, "the low tone is louder in the lowest bands"
    assert float((low - high)[6:9].mean()) < -2, "and the high one above them"


def test_a_clip_without_timed_labels_says_its_label_from_start_to_end() -> None:
    timed = TimedLabelsConfig(names=("one",), whole_clip="word")
    clip = TensorClip(torch.rand(4000) - 0.5, RATE, "clip", {"word": "one", "speaker": "ann"})
    model = WaveNet(small_config(**{**TOLD, "timed_labels": timed}))
    conditioning = condition_on(model, clip, clip.read(), labels_of(model, clip))
    expected = model.features_of([TimedLabel(0, 0.25, "one")], 4000, speaker="ann")
    assert conditioning.features is not None
    assert torch.equal(conditioning.features[0], expected)
    for labels, message in (
        ({"speaker": "ann"}, "no timed labels and no label 'word'"),
        ({"speaker": "ann", "word": "ten"}, "has the timed label 'ten', and the model knows one"),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(model, [replace(clip, labels=labels)], [clip], TrainConfig(steps=1, window=500))


def test_the_biases_of_several_labels_are_summed() -> None:
    """Linearity: the biases of (ann, drum) and (bob, flute) sum to those of (ann, flute) and (bob, drum)."""
    model = small_model(speakers=("ann", "bob"), labels={"instrument": ("drum", "flute")}, speaker_channels=3)

    def biases(speaker: str, instrument: str) -> torch.Tensor:
        found = model.biases(model.condition(speaker=speaker, labels={"instrument": instrument}), 0, 1)
        assert found is not None
        return found

    straight = biases("ann", "drum") + biases("bob", "flute")
    torch.testing.assert_close(straight, biases("ann", "flute") + biases("bob", "drum"))
    assert not torch.allclose(biases("ann", "drum"), biases("ann", "flute"))
    told = [{"speaker": "ann", "instrument": "flute"}, {"speaker": "bob", "instrument": "drum"}]
    batch = model.biases(model.condition(2, labels=told), 0, 1)
    torch.testing.assert_close(batch, torch.cat([biases("ann", "flute"), biases("bob", "drum")]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "ann"}, "the model needs a instrument by name; it knows drum, flute"),
        (
            {"speaker": "ann", "labels": {"instrument": "oboe"}},
            "instrument 'oboe' is unknown; the model knows drum, flute",
        ),
        ({"labels": {"instrument": "drum"}}, "the model needs a speaker by name; it knows ann"),
        ({"labels": [{"instrument": "drum"}]}, "labels of 1 clips given for a batch of 2"),
        (
            {"labels": {"take": "1"}},
            "a take is given, and the model knows no takes, only speaker, instrument; leave it out",
        ),
        ({"speaker": ["ann"], "labels": {"instrument": "drum"}}, "1 speakers given for a batch of 2"),
        ({"labels": "drum"}, "labels is 'drum'; expected names by kind"),
        ({"labels": ["drum", "flute"]}, "labels has 'drum'; expected names by kind"),
        ({"speaker": "ann", "labels": {"speaker": "ann", "instrument": "drum"}}, "labels has a speaker too"),
        ({"speaker": "ann", "labels": {"instrument": "drum"}, "timed_labels": SAID}, "was not trained with any"),
    ],
)
def test_labels_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    model = small_model(speakers=("ann",), labels={"instrument": ("drum", "flute")}, speaker_channels=3)
    with pytest.raises(ValueError, match=message):
        model.condition(2, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timed_labels": ()}, "timed_labels are none; expected at least one"),
        ({"timed_labels": (TimedLabel(0, 1, "ten"),)}, "label 'ten' at 0 s is unknown; known are one, two"),
        ({"timed_labels": SAID, "features": torch.zeros(12, 3)}, "features and timed_labels are both given"),
        ({"timed_labels": [SAID, SAID]}, "timed_labels of 2 clips are given for a batch of 1"),
        ({"timed_labels": [SAID, SAID[0]]}, "timed_labels mix labels and sequences of them"),
        ({"timed_labels": SAID[0]}, "expected a sequence of TimedLabel"),
        ({"timed_labels": "one"}, "timed_labels is 'one'; expected a sequence of TimedLabel"),
        ({"timed_labels": [(0, 1, "one")]}, "timed_labels has .0, 1, 'one'.; expected a TimedLabel"),
        ({"timed_labels": [None]}, "timed_labels has None; expected a TimedLabel"),
    ],
)
def test_timed_labels_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        telling().condition(speaker="ann", **options)
    with pytest.raises(ValueError, match=message):
        generate(telling(), batch=1, speaker="ann", **options)


@pytest.mark.parametrize("wrong", [SAID[0], "one", [(0, 1, "one")], [None], 7])
def test_generate_refuses_what_is_no_sequence_of_labels(wrong: object) -> None:
    """It counts the clips itself."""
    with pytest.raises(ValueError, match=r"expected a (sequence of )?TimedLabel"):
        generate(telling(), speaker="ann", timed_labels=wrong)


@pytest.mark.parametrize("values", [("0", 1, "one"), (0, None, "one"), (0, 1, 7)])
def test_a_timed_label_is_two_numbers_and_a_name(values: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="expected start and end in seconds, and a name"):
        TimedLabel(*values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": {"word": ("a",)}}, "labels has word and speaker_channels is missing"),
        ({"labels": {"speaker": ("a",)}, "speaker_channels": 2}, "name the speakers in speakers"),
        ({"labels": {"word": ("a", "a")}, "speaker_channels": 2}, "labels.word names one twice"),
        ({"timed_labels": TimedLabelsConfig(names=("a",))}, "timed_labels are set, and the model has no features"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WaveNetConfig(**values)


def test_the_command_says_what_it_is_told(wavenet, tmp_path: Path) -> None:
    model, out, score = (tmp_path / name for name in ("m.safetensors", "out.wav", "s.txt"))
    telling().save_pretrained(model)
    score.write_text("0\t0.1\tone\n0.15\t0.25\ttwo\n")
    for words in (["--say", "one:0.1 :0.05 two:0.1", "--label", "speaker=ann"], ["--score", score, "--speaker", "ann"]):
        assert wavenet("generate", model, "-o", out, *words, "--force").status == 0
        audio, rate = soundfile.read(out)
        assert (len(audio), rate) == (4000, RATE)
        expected = generate(WaveNet.from_pretrained(model), 4000, speaker="ann", timed_labels=SAID)[0]
        np.testing.assert_allclose(audio, expected.numpy(), atol=1 / 32768)
    assert "says, as timed labels: one, two" in wavenet("inspect", model).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tell it with --say or --score; it knows one, two"),
        (["--say", "one"], "--say has 'one'; expected NAME:SECONDS, such as seven:0.45"),
        (["--say", "one:1e9"], "--say lasts 1e+09 seconds; expected up to 86400"),
        (["--say", "one:-1"], "--say has 'one:-1'; expected NAME:SECONDS"),
        (["--say", ":0.3"], "--say is ':0.3'; expected labels"),
        (["--say", "ten:1"], "label 'ten' at 0 s is unknown; known are one, two"),
        (["--say", "one:1", "--score", "s.txt"], "expected one of them"),
        (["--say", "one:1", "--tier", "words"], "--tier goes with --score"),
        (["--score", "s.txt"], "no such file of timed labels"),
        (["--say", "one:1", "--label", "speaker"], "--label is 'speaker'; expected KIND=NAME"),
        (["--say", "one:1", "--label", "speaker=bob"], "--label gives the speaker twice, 'bob' and 'ann'"),
        (
            ["--say", "one:1", "--label", "word=one"],
            "a word is given, and the model knows no words, only speaker; leave it out",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(wavenet, tmp_path: Path, words: list[str], message: str) -> None:
    model = tmp_path / "m.safetensors"
    telling().save_pretrained(model)
    result = wavenet("generate", model, "-o", tmp_path / "out.wav", "--speaker", "ann", *words)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert message in result.err
