import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import model_of_kind, needs_native, small_model
from wavenet import SamplingOptions, WaveNet, generate, stream
from wavenet.generation import FeatureStream, Stream, StreamState
from wavenet.network import Categorical, GaussianMixture

ENGINES = [pytest.param("native", marks=needs_native), "incremental", "stepwise"]
KIND = (GaussianMixture(levels=4096), True, True, "features", "transposed")


def vocoder(kind: tuple[object, ...] = KIND) -> WaveNet:
    return model_of_kind(kind, pre_emphasis=0.5).float()


def frames(count: int = 14) -> torch.Tensor:
    return torch.randn(5, count, generator=torch.Generator().manual_seed(2)) - 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("upsampler", ["transposed", "interpolation", "frames"])
@pytest.mark.parametrize("prediction", ["features", "past"])
@pytest.mark.parametrize("sizes", [(1,) * 14, (3, 1, 7, 3), (14,), (2, 0, 12)], ids=str)
def test_features_in_any_portions_give_the_audio_of_the_whole(
    engine: str, upsampler: str, prediction: str, sizes: tuple[int, ...]
) -> None:
    model = vocoder((Categorical(), True, True, prediction, upsampler))
    portions = frames().split(sizes, dim=1)
    audio = torch.cat(list(stream(model, features=iter(portions), speaker="bob", seed=4, engine=engine)))
    assert torch.equal(audio, generate(model, features=frames(), speaker="bob", seed=4, engine=engine)[0])


def test_a_sample_waits_for_the_frames_it_is_made_of_and_no_more() -> None:
    model, hop = vocoder(), 12
    arriving = FeatureStream(model, speaker="ann")
    assert arriving.alignment.look_ahead == 2, "one of the context network, one of the upsampler"
    made = [len(arriving.push(frame)) for frame in frames().split(1, dim=1)]
    assert made == [0, 0] + [hop] * 12
    assert len(arriving.finish()) == 2 * hop
    assert len(arriving.finish()) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_samples_do_not_depend_on_portions_of_time(engine: str) -> None:
    model = model_of_kind((Categorical(), True, False, "past", "transposed")).float()

    def fresh() -> Stream:
        return Stream(model, model.condition(2, speaker="eve"), SamplingOptions(top_p=0.9), batch=2, engine=engine)

    whole, pieces = fresh().take(100), fresh()
    together = torch.cat([pieces.take(length).audio for length in (1, 2, 30, 67)], dim=1)
    assert torch.equal(together, whole.audio)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_restored_in_another_process_goes_on_as_if_nothing_had_been(engine: str, tmp_path: Path) -> None:
    model = vocoder((Categorical(), True, True, "features", "transposed"))
    model.save_pretrained(tmp_path / "model.safetensors")
    model = WaveNet.from_pretrained(tmp_path / "model.safetensors")
    whole = generate(model, features=frames(), speaker="bob", seed=9, engine=engine)[0]
    first = FeatureStream(model, speaker="bob", seed=9, engine=engine)
    beginning = first.push(frames()[:, :6])
    first.state().save(tmp_path / "state.safetensors")
    np.save(tmp_path / "rest.npy", frames()[:, 6:].numpy())
    program = """
import sys, numpy as np, torch
from wavenet import WaveNet
from wavenet.generation import FeatureStream, StreamState
folder, engine = sys.argv[1:]
stream = FeatureStream(WaveNet.from_pretrained(folder + "/model.safetensors"), speaker="bob", engine=engine)
stream.load(StreamState.load(folder + "/state.safetensors"))
rest = stream.push(torch.from_numpy(np.load(folder + "/rest.npy")))
np.save(folder + "/audio.npy", torch.cat([rest, stream.finish()]).numpy())
"""
    subprocess.run([sys.executable, "-c", program, tmp_path, engine], check=True, env=os.environ)
    rest = torch.from_numpy(np.load(tmp_path / "audio.npy"))
    assert torch.equal(torch.cat([beginning, rest]), whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_used_stream_forgets_what_it_was_told_when_it_takes_up_another(engine: str) -> None:
    model = vocoder((Categorical(), True, True, "features", "transposed"))
    used, other = (FeatureStream(model, speaker="ann", seed=seed, engine=engine) for seed in (1, 2))
    used.push(frames() + 1)
    beginning = other.push(frames()[:, :6])
    used.load(other.state())
    rest = torch.cat([used.push(frames()[:, 6:]), used.finish()])
    assert torch.equal(torch.cat([beginning, rest]), generate(model, features=frames(), speaker="ann", seed=2)[0])


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    model = small_model().float()
    stream_ = Stream(model, engine="incremental", seed=5)
    stream_.take(10)
    state = stream_.state()
    expected = stream_.take(20).audio
    stream_.load(state)
    engine = state.engine
    damaged = [
        replace(state, engine=replace(engine, network=replace(engine.network, queues=engine.network.queues[1:]))),
        replace(state, previous=torch.zeros(3)),
        replace(state, randomness=()),
        replace(state, randomness=(torch.zeros(3),)),
    ]
    for broken in damaged:
        with pytest.raises(ValueError, match="the state does not fit"):
            stream_.load(broken)
    assert torch.equal(stream_.take(20).audio, expected)


def test_a_copied_stream_goes_its_own_way() -> None:
    model = small_model()
    first, second = Stream(model, seed=1), Stream(model, seed=2)
    first.take(20)
    second.load(first.state())
    assert torch.equal(first.take(30).audio, second.take(30).audio)


def test_streams_without_features_go_on_for_ever_or_as_long_as_asked() -> None:
    model = small_model()
    endless = stream(model, seed=3)
    audio = torch.cat([next(endless) for _ in range(2)])
    assert torch.equal(audio, generate(model, 1600, seed=3)[0])
    assert sum(len(chunk) for chunk in stream(model, 900)) == 900


def test_memory_of_features_does_not_grow() -> None:
    model = vocoder()
    arriving = FeatureStream(model, speaker="ann")
    kept = []
    for _ in range(30):
        arriving.push(frames(4))
        features = arriving.state().features
        assert features is not None
        kept.append(features.shape[2])
    assert max(kept) <= 4 + 2 * arriving.alignment.look_ahead + 1
    assert arriving.arrived == 120


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model, plain = vocoder(), small_model()
    with pytest.raises(ValueError, match="num_samples and features are both given"):
        stream(model, 10, features=iter([]))
    with pytest.raises(ValueError, match="num_samples is 0"):
        stream(plain, 0)
    with pytest.raises(ValueError, match="not conditioned on features"):
        stream(plain, features=iter([frames()]))
    with pytest.raises(ValueError, match="the naive engine cannot pause"):
        Stream(plain, engine="naive").state()
    with pytest.raises(ValueError, match="it is of another model, or of another batch"):
        Stream(plain, batch=2).load(Stream(plain).state())
    with pytest.raises(ValueError, match="does not belong to a stream of features"):
        FeatureStream(model, speaker="ann").load(Stream(plain).state())
    finished = FeatureStream(model, speaker="ann")
    finished.finish()
    with pytest.raises(ValueError, match="is finished"):
        finished.push(frames())
    with pytest.raises(FileNotFoundError, match="no such stream state"):
        StreamState.load(tmp_path / "none")
    Stream(plain).state().save(tmp_path / "state")
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    model.save_pretrained(tmp_path / "model")
    for name in ("cut", "model"):
        with pytest.raises(ValueError, match="is not a stream state, or not a whole one"):
            StreamState.load(tmp_path / name)
