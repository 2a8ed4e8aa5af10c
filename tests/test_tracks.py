"""Tracks: values over time beside the features, from a file to a trained model and its audio."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from tests.conftest import CONDITIONINGS, needs_native, small_config, small_model, tone
from wavenet import TrainConfig, Trainer, WaveNet, WaveNetConfig, generate, load_folder
from wavenet.data import PrepareConfig, PreparedDataset, TensorClip, find_clips, prepare_dataset, read_tracks
from wavenet.engines import IncrementalEngine, NaiveEngine, NativeEngine
from wavenet.evaluation import condition_on, copy_clips, labels_of, score_symbols
from wavenet.export import export_onnx
from wavenet.generation import FeatureStream, StreamState
from wavenet.network import (
    ConditioningConfig,
    LogMelConfig,
    PredictionConfig,
    SamplingOptions,
    TimedLabel,
    TimedLabelsConfig,
    Tracks,
)
from wavenet.page import packing_refusal

RATE, HOP = 16000, 100
NAMES = ("pitch", "loudness")
TRACKED = {
    "features": LogMelConfig(bins=12, hop=HOP, window=256),
    "conditioning": ConditioningConfig(channels=3, scales=(10, 10)),
    "tracks": NAMES,
}


def tracked(upsampler: str = "frames", **changes: object) -> WaveNet:
    """A float64 model with two tracks, all weights and statistics at random."""
    conditioning = ConditioningConfig(channels=3, context_channels=4, context_frames=1, **CONDITIONINGS[upsampler])
    features = LogMelConfig(bins=5, hop=12, window=64)
    model = small_model(features=features, conditioning=conditioning, tracks=NAMES, **changes)
    model.track_mean.copy_(torch.tensor([[5.0], [-30.0]]))
    model.track_spread.copy_(torch.tensor([[0.5], [10.0]]))
    return model


def given(batch: int = 2, frames: int = 8) -> dict[str, list[torch.Tensor]]:
    """Features and tracks of clips of different lengths."""
    generator = torch.Generator().manual_seed(8)
    features = [torch.randn(5, frames - row, generator=generator) - 3 for row in range(batch)]
    tracks = [torch.randn(2, frames - row, generator=generator) * 4 for row in range(batch)]
    return {"features": features, "tracks": tracks}


@needs_native
@pytest.mark.parametrize("prediction", [None, "features"])
@pytest.mark.parametrize("upsampler", ["transposed", "interpolation", "frames", "linear"])
def test_naive_equals_incremental_equals_native(upsampler: str, prediction: str | None) -> None:
    own = PredictionConfig(source=prediction, order=9, block=4) if prediction else None
    model, uniforms = tracked(upsampler, prediction=own), torch.rand(2, 70, generator=torch.Generator().manual_seed(5))
    conditioning = model.condition(2, **given())
    naive, expected = NaiveEngine(model, 2, conditioning).run(uniforms.double(), SamplingOptions())
    symbols, found = IncrementalEngine(model, 2, conditioning).run(uniforms.double(), SamplingOptions())
    assert torch.equal(symbols, naive)
    torch.testing.assert_close(found, expected)
    single = model.float()
    symbols, found = NativeEngine(single, 2, single.condition(2, **given())).run(uniforms, SamplingOptions())
    assert torch.equal(symbols, naive)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("upsampler", CONDITIONINGS)
def test_an_impulse_in_a_track_moves_the_samples_that_its_frame_reaches_and_no_others(upsampler: str) -> None:
    model, inputs, frame = tracked(upsampler), given(1, 30), 14
    impulse = inputs["tracks"][0].clone()
    impulse[1, frame] += 20
    one, other = (
        model.condition(features=inputs["features"], tracks=[rows]) for rows in (inputs["tracks"][0], impulse)
    )
    begin, end = -40, 400
    changed = (model.biases(one, begin, end) - model.biases(other, begin, end)).abs().sum(dim=2)[0] > 1e-12
    reached = torch.tensor([frame in range(*model.alignment.frames_around(t, t + 1)) for t in range(begin, end)])
    assert not bool((changed & ~reached).any())
    middle = slice(frame * 12 - begin - 12, frame * 12 - begin + 12)
    assert int(changed[middle].sum()) > 20, "an upsampler may give its outermost frames no weight"


def test_linear_prediction_is_that_of_the_features_alone() -> None:
    plain = small_model(features=LogMelConfig(bins=5, hop=12, window=64), prediction=PREDICTION, conditioning=LINEAR)
    model, inputs = tracked("linear", prediction=PREDICTION), given(1)
    assert plain.predictor is not None
    assert model.predictor is not None
    expected = plain.predictor.correlation(0, 20, plain.condition(features=inputs["features"]))
    assert torch.equal(model.predictor.correlation(0, 20, model.condition(**inputs)), expected)


PREDICTION = PredictionConfig(source="features", order=9, block=4)
LINEAR = ConditioningConfig(projection="frames", upsampler="linear")


def test_a_batch_equals_its_rows_and_a_stream_in_pieces_equals_the_whole(tmp_path: Path) -> None:
    model = tracked()
    both = generate(model, **given(), seed=3)
    rows = given()
    alone = generate(model, features=rows["features"][1], tracks=rows["tracks"][1], seed=4)
    torch.testing.assert_close(both[1:, : alone.shape[1] - 24], alone[:, :-24])
    assert not torch.equal(alone, generate(model, features=rows["features"][1], tracks=rows["tracks"][1] + 9, seed=4))
    arriving, made = FeatureStream(model, seed=4), []
    for frame in range(7):
        made.append(arriving.push(*(rows[name][1][:, frame : frame + 1] for name in ("features", "tracks"))))
        arriving.state().save(tmp_path / "state")
        arriving = FeatureStream(model)
        arriving.load(StreamState.load(tmp_path / "state"))
    torch.testing.assert_close(torch.cat([*made, arriving.finish()]), alone[0])
    with pytest.raises(ValueError, match="tracks are missing; the model takes pitch, loudness"):
        FeatureStream(model).push(rows["features"][0])


def write_files(folder: Path, values: torch.Tensor) -> list[Path]:
    """The same two tracks in a file of each kind; those with times have every second frame, and a straight line."""
    pitch, loudness = values.tolist()
    lines = [f"{one},{other}\n" for one, other in zip(pitch, loudness, strict=True)]
    timed = [f"{index * HOP / RATE},{line}" for index, line in enumerate(lines)]
    (folder / "at.csv").write_text("pitch,loudness\n" + "".join(lines))
    (folder / "timed.csv").write_text("seconds, pitch, loudness\n" + "".join(timed) + "\n")
    (folder / "half.csv").write_text("seconds,pitch,loudness\n" + "".join(timed[::2]))
    rows = enumerate(zip(pitch, loudness, strict=True))
    swapped = [f"{other},{index * HOP / RATE},{one}\n" for index, (one, other) in rows]
    (folder / "swapped.csv").write_text("loudness,seconds,pitch\n" + "".join(swapped))
    np.save(folder / "t.npy", values.numpy())
    np.savez(folder / "t.npz", tracks=values.numpy()[None])
    torch.save(values, folder / "t.pt")
    save_file({"tracks": values}, folder / "t.safetensors")
    return sorted(folder.iterdir())


def test_files_of_the_same_tracks_condition_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, features = WaveNet(small_config(**TRACKED)), torch.full((12, 21), -5.0)
    values = torch.stack([torch.linspace(4, 6, 21), torch.linspace(-40, -20, 21)])
    expected = model.condition(features=features, tracks=values).features
    assert expected is not None
    assert expected.shape == (1, 14, 21)
    files = write_files(tmp_path, values)
    assert len(files) == 8
    for path in files:
        found = model.condition(features=features, tracks=read_tracks(path, NAMES)).features
        assert found is not None
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-6, msg=path.name)


def test_tracks_go_beside_what_timed_labels_say() -> None:
    torch.manual_seed(0)
    timed = TimedLabelsConfig(names=("one",), channels=4, hidden_channels=8)
    model, said = WaveNet(small_config(**TRACKED, timed_labels=timed)), [TimedLabel(0, 0.05, "one")]
    tracks = Tracks(NAMES, torch.tensor([[5.0, 5.5], [-30.0, -20.0]]), torch.tensor([0.0, 0.05]))
    conditioning = model.condition(timed_labels=said, tracks=tracks)
    assert conditioning.features is not None
    assert torch.equal(conditioning.features[0, :12], model.features_of(said))
    scaled = model.scale_tracks(tracks.at(NAMES, 9, RATE / HOP))
    assert torch.equal(conditioning.features[0, 12:], scaled)
    assert generate(model, timed_labels=said, tracks=tracks).shape == (1, 9 * HOP)


def clips(count: int = 4) -> list[TensorClip]:
    made = []
    for number in range(count):
        waveform = torch.from_numpy(tone(0.25, hertz=200 + 100 * number, seed=number))
        values = torch.stack([torch.linspace(4, 6 + number, 31), torch.full((31,), -30.0 * number)])
        tracks = Tracks((*NAMES[::-1], "unused"), torch.cat([values.flip(0), values[:1]]), torch.linspace(0, 0.25, 31))
        made.append(TensorClip(waveform, RATE, f"clip{number}", tracks=tracks))
    return made


SETTINGS = TrainConfig(steps=4, batch_size=2, window=900, compile="off", evaluation_seconds=0.5)


def test_training_measures_tracks_and_scores_what_evaluation_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer = Trainer(WaveNet(small_config(**TRACKED)), clips()[1:], clips()[:1], SETTINGS)
    rows = torch.cat([clip.tracks.at(NAMES, 41, RATE / HOP) for clip in clips()[1:]], dim=1)
    torch.testing.assert_close(trainer.average.track_mean[:, 0], rows.mean(dim=1))
    torch.testing.assert_close(trainer.average.track_spread[:, 0], rows.std(dim=1, correction=0))
    for step in range(3):
        batch, expected = trainer.sampler.batch(step), []
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
    trainer.average.save_pretrained(tmp_path / "model.safetensors")
    read = WaveNet.from_pretrained(tmp_path / "model.safetensors")
    assert read.config == trainer.model.config
    inputs = {"features": torch.full((12, 5), -5.0), "tracks": torch.ones(2, 5)}
    ours, theirs = trainer.average.condition(**inputs).features, read.condition(**inputs).features
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours, theirs)
    (copies,) = copy_clips(read, clips()[:1], SamplingOptions(), references=())
    assert copies.audio["model"].shape == (4000,)
    other = Trainer(WaveNet(small_config(**TRACKED)), clips()[:2], clips()[2:], SETTINGS)
    other.begin_with(read)
    assert torch.equal(other.model.track_mean, read.track_mean), "its weights were trained with them"
    turned = Trainer(WaveNet(small_config(**{**TRACKED, "tracks": NAMES[::-1]})), clips()[:2], clips()[2:], SETTINGS)
    turned.begin_with(read)
    assert not torch.equal(turned.model.track_mean, read.track_mean)


def test_a_resumed_training_equals_the_uninterrupted_one() -> None:
    def trainer() -> Trainer:
        torch.manual_seed(0)
        return Trainer(WaveNet(small_config(**TRACKED)), clips()[1:], clips()[:1], SETTINGS)

    whole, broken, resumed = trainer(), trainer(), trainer()
    for _ in range(2):
        broken.step()
    resumed.restore(broken.state())
    for one in (whole, resumed):
        one.run()
    for ours, theirs in zip(whole.average.state_dict().values(), resumed.average.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_model_without_tracks_has_a_file_without_them() -> None:
    model = WaveNet(WaveNetConfig(dilations=(1, 2)))
    assert "tracks" not in model.config.to_dict()
    assert not [name for name in model.state_dict() if "track" in name]


def record(folder: Path, seconds: float = 1.0, count: int = 6, tracks: Callable[[int], str] | None = None) -> Path:
    """Recordings of a tone between silences, and a track file with times for each, of a value that grows with time."""
    for number in range(count):
        path = folder / "audio" / f"w{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        rest = np.zeros(RATE * 4 // 10)
        soundfile.write(path, np.concatenate([rest, tone(seconds, seed=number), rest]), RATE)
        times = np.arange(0.02, seconds + 0.8, 0.01)
        text = "seconds,pitch\n" + "".join(f"{time:.4f},{10 * time + number:.6f}\n" for time in times)
        (folder / "tracks").mkdir(exist_ok=True)
        (folder / "tracks" / f"w{number}.csv").write_text(tracks(number) if tracks else text)
    return folder


@pytest.mark.parametrize("max_seconds", [15.0, 1.0])
def test_tracks_stay_with_their_samples_when_clips_are_trimmed_or_cut(tmp_path: Path, max_seconds: float) -> None:
    folder = record(tmp_path, seconds=2.0)
    found = find_clips(folder / "audio", "folder", held_out=0.3, tracks=folder / "tracks")
    config = PrepareConfig(max_seconds=max_seconds)
    prepare_dataset(found, tmp_path / "d", config, note=lambda message: None)
    dataset = PreparedDataset(tmp_path / "d")
    assert (len(dataset.clips) > 6) == (max_seconds == 1.0)
    for clip in dataset.clips:
        whole, _ = soundfile.read(clip.source, dtype="int16")
        sought = (clip.read() * 32768).to(torch.int16).numpy()
        (starts,) = np.nonzero(whole[: len(whole) - len(sought) + 1] == sought[0])
        start = next(place for place in starts if np.array_equal(whole[place : place + len(sought)], sought))
        frames = clip.samples // HOP + 1
        assert clip.tracks is not None
        values = clip.tracks.at(["pitch"], frames, RATE / HOP)[0]
        places = (torch.arange(frames) * HOP + start) / RATE
        expected = 10 * places.clamp(0.02, 2.79) + int(Path(clip.source).stem[1:])
        torch.testing.assert_close(values, expected.float(), atol=2e-4, rtol=0)
    quiet = {"note": lambda message: None}
    train, test = load_folder(folder / "audio", config, held_out=0.3, tracks=folder / "tracks", **quiet)
    loaded = {clip.name: clip.tracks for clip in train + test}
    for clip in dataset.clips:
        other = loaded[clip.name]
        assert other is not None
        assert clip.tracks is not None
        assert torch.equal(clip.tracks.values, other.values)
        assert torch.equal(clip.tracks.seconds, other.seconds)


def test_track_files_that_do_not_fit_their_recordings_are_named(tmp_path: Path) -> None:
    def prepared(text: str) -> list[str]:
        folder = record(tmp_path, tracks=lambda number: text if number == 3 else "seconds,pitch\n0,1\n1.8,2\n")
        found = find_clips(folder / "audio", "folder", held_out=0.3, tracks=folder / "tracks")
        return [skipped.reason for skipped in prepare_dataset(found, tmp_path / "d", PrepareConfig(), force=True)]

    (reason,) = prepared("seconds,pitch\n0,1\n1.5,2\n")
    assert reason.endswith("w3.wav: tracks last from 0 to 1.5 s; expected 0 to 1.8 s, as the clip does")
    for text, message in (
        ("pitch\n1\n2\n", r"the tracks of w3\.wav in .* have no times; expected a column seconds"),
        ("seconds,pitch\n0,1\n0,2\n", r"w3\.csv: the seconds of tracks do not rise"),
        ("seconds,pitch\n0,1\n1\n", r"w3\.csv is not CSV, a header and lines of as many numbers"),
        ("seconds,pitch\n0,one\n", r"w3\.csv is not CSV, a header and lines of as many numbers \(could not"),
        ("seconds,pitch\n0,1\n1.8,nan\n", r"w3\.csv: track 'pitch' has the value nan at frame 1; expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared(text)
    with pytest.raises(FileNotFoundError, match="no such folder of tracks"):
        find_clips(tmp_path / "audio", "folder", held_out=0.3, tracks=tmp_path / "none")
    with pytest.raises(ValueError, match="has no tracks; expected files"):
        find_clips(tmp_path / "audio", "folder", held_out=0.3, tracks=tmp_path / "audio")


def test_a_recipe_with_tracks_trains_and_the_command_generates(wavenet, tmp_path: Path) -> None:
    record(tmp_path)
    data, model = tmp_path / "d", tmp_path / "run" / "model.safetensors"
    result = wavenet("prepare", tmp_path / "audio", data, "--tracks", tmp_path / "tracks", "--held-out", 0.3)
    assert "tracks: pitch in 6 clips" in result.out
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'run = "{tmp_path}/run"\ndataset = "{data}"\n'
        "[model]\ncycles = 1\nlayers_per_cycle = 2\nresidual_channels = 4\ngate_channels = 4\n"
        'tracks = ["pitch"]\n[model.features]\nbins = 12\nhop = 100\nwindow = 256\n'
        "[model.conditioning]\nscales = [10, 10]\n"
        '[train]\nsteps = 2\nwindow = 800\nbatch_size = 2\ncompile = "off"\n'
    )
    wavenet("train", recipe, "--set", 'model.tracks=["loudness"]').fails_with("tracks lack loudness; there is pitch")
    assert wavenet("train", recipe).status == 0
    assert "tracks: pitch" in wavenet("inspect", model).out
    assert wavenet("evaluate", model, data, "--limit", 1).status == 0
    say = ("generate", model, "-o", tmp_path / "o.wav", "--force", "--features-from", tmp_path / "audio" / "w0.wav")
    tracks = tmp_path / "tracks" / "w0.csv"
    assert wavenet(*say, "--tracks", tracks).status == 0
    assert soundfile.info(tmp_path / "o.wav").frames == 28800
    np.save(tmp_path / "t.npy", np.zeros((1, 288)))
    (tmp_path / "wrong.csv").write_text("seconds,pitsh\n0,1\n1.8,1\n")
    wavenet(*say).fails_with("the model takes the tracks pitch; give them with --tracks")
    wavenet(*say, "--tracks", tmp_path / "t.npy").fails_with("tracks have 288 frames, and the clip 289")
    wavenet(*say, "--tracks", tmp_path / "none.npy").fails_with("none.npy: no such track file")
    wavenet(*say, "--tracks", tmp_path / "wrong.csv").fails_with("wrong.csv", "lack pitch; there is pitsh")
    wavenet(*say[:-2], "--features-from", tracks, "--tracks", tracks).fails_with("w0.csv")
    wavenet("generate", "prompts", "-o", tmp_path / "p.wav", "--tracks", tracks).fails_with("the model takes no tracks")
    wavenet("export", model, "-o", tmp_path / "onnx").fails_with(
        "the model takes the tracks pitch; an export takes only"
    )
    two = ("--features-from", tmp_path / "audio" / "w1.wav", "--tracks", tracks, "--tracks", tracks)
    prime = ("--prime", tmp_path / "audio" / "w0.wav", "--prime-seconds", 0.01, "--seconds", 0.05)
    assert wavenet(*say, *two, *prime).status == 0
    assert soundfile.info(tmp_path / "o-2.wav").frames == 960


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (None, "tracks are missing; the model takes pitch, loudness: give Tracks, or a tensor"),
        (torch.zeros(2, 7), "tracks have 7 frames, and the clip 8; expected as many"),
        (torch.zeros(1, 8), r"values of shape \(1, 8\); expected \(2, frames\), the rows pitch, loudness"),
        (torch.zeros(2, 0), r"values of shape \(2, 0\); expected"),
        (torch.full((2, 8), math.nan), "track 'pitch' has the value nan at frame 0; expected finite"),
        (torch.zeros(2, 8, dtype=torch.long), "values .*expected a floating-point tensor"),
        ("pitch", "tracks"),
        (5, "tracks"),
        ([torch.zeros(2, 8)] * 2, "tracks of 2 clips are given for a batch of 1"),
        (Tracks(("pitch",), torch.zeros(1, 8)), "tracks lack loudness; there is pitch"),
        (
            Tracks(NAMES, torch.zeros(2, 2), torch.tensor([0.0, 0.5])),
            "tracks last from 0 to 0.5 s; expected 0 to 0.00525 s",
        ),
    ],
)
def test_tracks_that_do_not_fit_are_refused(tracks: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tracked().condition(features=given(1)["features"], tracks=tracks)


def test_clips_and_models_without_tracks_are_named(tmp_path: Path) -> None:
    model = WaveNet(small_config(**TRACKED))
    without = [*clips()[:2], replace(clips()[2], tracks=None)]
    with pytest.raises(ValueError, match="clip2 has no tracks, and the model takes pitch, loudness; prepare it with"):
        Trainer(model, without, clips()[:1], SETTINGS)
    short = replace(clips()[0], tracks=Tracks(NAMES, torch.zeros(2, 30)))
    with pytest.raises(ValueError, match="clip0: tracks have 30 frames, and the clip 41"):
        Trainer(model, clips(), [short], SETTINGS)
    with pytest.raises(ValueError, match="tracks are given, and the model takes none; leave them out"):
        small_model().condition(tracks=torch.zeros(1, 3))
    assert "the model takes the tracks pitch, loudness" in str(packing_refusal(model))
    with pytest.raises(ValueError, match="takes the tracks pitch, loudness; an export takes only features"):
        export_onnx(model, tmp_path / "onnx")
    for changes, message in (
        ({"tracks": ("pitch",)}, "tracks are set, and the model has no features"),
        ({**TRACKED, "tracks": ("seconds",)}, "tracks has the name 'seconds', which is that of their times"),
        ({**TRACKED, "tracks": ("a", "a")}, "tracks names one twice"),
    ):
        with pytest.raises(ValueError, match=message):
            small_config(**changes)
