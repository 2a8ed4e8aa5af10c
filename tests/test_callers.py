"""Python's callers are understood: it works, or one `ValueError` says how."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

from tests.conftest import small_config, small_model
from wavenet import (
    Categorical,
    LogisticMixture,
    LogMel,
    LogMelConfig,
    SamplingOptions,
    TimedLabel,
    TrainConfig,
    Trainer,
    WaveNet,
    decode_mu_law,
    encode_mu_law,
    generate,
    stream,
    tensor_clips,
    write_audio,
)
from wavenet.data import PrepareConfig
from wavenet.network import ConditioningConfig, GaussianMixture

EIGHT = np.int64(8)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, numpy: generate(model, numpy(8), seed=numpy(2**31), batch=numpy(2), top_k=numpy(5)),
        lambda model, numpy: generate(model, 8, batch=2, seed=np.array([3, 4]) if numpy is np.int64 else [3, 4]),
        lambda model, numpy: torch.cat(list(stream(model, numpy(8), seed=numpy(3)))),
    ],
)
def test_numbers_of_numpy_are_numbers(call: Callable[..., torch.Tensor]) -> None:
    model = small_model()
    assert torch.equal(call(model, np.int64), call(model, int))


@pytest.mark.parametrize(
    "make",
    [
        lambda eight: small_config(residual_channels=eight, sample_rate=1000 * eight),
        lambda eight: LogMelConfig(bins=eight, floor=np.float32(1e-5) if eight is EIGHT else float(np.float32(1e-5))),
        lambda eight: Categorical(classes=eight),
        lambda eight: LogisticMixture(components=eight),
        lambda eight: SamplingOptions(top_k=eight),
        lambda eight: TrainConfig(steps=eight),
        lambda eight: PrepareConfig(sample_rate=1000 * eight),
        lambda eight: ConditioningConfig(channels=eight),
        lambda eight: TimedLabel(0.5, eight, "one"),
    ],
)
def test_settings_hold_numbers_of_python(make: Callable[[object], object]) -> None:
    assert repr(make(EIGHT)) == repr(make(8))


TRACK = torch.linspace(-0.5, 0.5, 100)


def vocoder() -> WaveNet:
    features = LogMelConfig(bins=5, hop=12, window=64)
    return small_model(features=features, conditioning=ConditioningConfig(scales=(3, 4)))


def two_speakers() -> WaveNet:
    return small_model(speakers=("a", "b"), speaker_channels=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_model().encode(TRACK[None].numpy()), "torch.from_numpy"),
        (lambda: small_model().encode(TRACK[None] * torch.nan), "not finite"),
        (lambda: small_model().encode(TRACK[None] * 32768), "has a peak of 16384; .* scale it down"),
        (lambda: small_model().encode(TRACK[None].short()), "divide 16-bit integers by 32768"),
        (lambda: small_model().decode(TRACK[None]), "expected a tensor of whole numbers"),
        (lambda: small_model()(torch.full((1, 99), 256)), "symbols are from 256 to 256; the model has 256"),
        (lambda: generate(small_model(), 4, prime=TRACK.numpy()), "torch.from_numpy"),
        (lambda: generate(small_model(), 4, prime=TRACK * 9), "prime has a peak of 4.5"),
        (lambda: generate(small_model(), 4, batch=2, prime=[TRACK]), "prime has 1 entries; expected one for each"),
        (lambda: generate(small_model(), 4.0), "num_samples is 4.0; expected at least 1"),
        (lambda: generate(small_model(), 4, seed=None), "seed is None; expected a whole number"),
        (lambda: generate(small_model(), 4, temperature="1"), "temperature is '1'; expected a number"),
        (lambda: generate(torch.nn.DataParallel(small_model()), 4), "expected a WaveNet: pass model.module"),
        (lambda: generate(vocoder(), features=np.zeros((5, 9))), "torch.from_numpy"),
        (lambda: generate(vocoder(), features=torch.tensor(1.0)), r"features are of shape \(\); expected a tensor"),
        (lambda: generate(vocoder(), features=torch.zeros(9, 5)), r"shape \(9, 5\); .*transpose them"),
        (lambda: generate(vocoder(), features=torch.zeros(5, 9), prime=torch.zeros(999)), "no longer than prime, 999"),
        (lambda: LogMel(LogMelConfig(), 16000)(torch.zeros(999).short()), "divide 16-bit integers by 32768"),
        (lambda: generate(small_model(), 4, temperature=None), "temperature is None; expected a number"),
        (lambda: generate(small_model(), 4, prime=TRACK.to_sparse()), "prime is a tensor of layout torch.sparse_coo"),
        (lambda: small_model().encode(TRACK[None].to("meta")), "waveform is a tensor on the meta device"),
        (lambda: generate(vocoder(), features=torch.zeros(5, 9).to_sparse()), "features is a tensor of layout"),
        (lambda: generate(two_speakers(), 4, speaker=0), "speaker is 0; expected a name, or one for each clip: a, b"),
        (lambda: generate(two_speakers(), 4, speaker=b"a"), "speaker is b'a'; expected a name"),
        (lambda: write_audio("x.wav", TRACK[:0], 16000), "waveform has no samples"),
        (lambda: write_audio("x.wav", TRACK * 32768, 16000), "has a peak of 16384; .* scale it down"),
        (lambda: dataclasses.replace(small_config(dilations=(1, 2, 1, 2)), cycles=1), "takes dilations=()"),
        (lambda: WaveNet({"cycles": 1}), "config is a dict; expected a WaveNetConfig"),
    ],
)
def test_what_does_not_fit_is_one_error_that_says_how(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_and_loses_nothing(dtype: torch.dtype, tmp_path: Path) -> None:
    halves = TRACK.to(dtype)
    assert torch.equal(encode_mu_law(halves), encode_mu_law(halves.float()))
    assert torch.equal(small_model().encode(halves[None]), small_model().encode(halves.float()[None]))
    for distribution in (Categorical(), GaussianMixture()):
        model = small_model(distribution=distribution).to(dtype)
        assert generate(model, 9, prime=halves).dtype == torch.float32


def test_classes_in_few_bits_are_decoded_without_wrapping() -> None:
    classes = torch.arange(256)
    assert torch.equal(decode_mu_law(classes.to(torch.uint8)), decode_mu_law(classes))


def test_log_mel_takes_any_precision() -> None:
    log_mel, waveform = LogMel(LogMelConfig(), 16000), torch.rand(2000) - 0.5
    assert torch.equal(log_mel(waveform.double()), log_mel(waveform))


def test_tensors_made_in_inference_mode_are_trained_on(tmp_path: Path) -> None:
    small_model().float().save_pretrained(tmp_path / "x.safetensors")
    with torch.inference_mode():
        models = WaveNet(small_config()), WaveNet.from_pretrained(tmp_path / "x.safetensors")
        clips = tensor_clips([TRACK.repeat(3)], 16000)
    for model in models:
        Trainer(model, clips, clips, TrainConfig(steps=1, window=50)).run()


def test_parametrized_and_compiled_models_are_saved_as_they_compute(tmp_path: Path) -> None:
    model, path = small_model().float(), tmp_path / "x.safetensors"
    parametrizations.weight_norm(model.head)
    with torch.no_grad():
        model.head.parametrizations.weight.original0.mul_(1.5)
    expected = generate(torch.compile(model), 20, engine="incremental")
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager")
    model.save_pretrained(path)
    assert torch.equal(generate(WaveNet.from_pretrained(path), 20, engine="incremental"), expected)
    assert model.head.weight.requires_grad, "the model itself is as it was"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: model.head.weight.data.fill_(torch.nan), "'head.weight' has weights that are not finite"),
        (lambda model: model.double().head.weight.data.fill_(1e300), "'head.weight' has weights that are not finite"),
        (lambda model: model.to("meta"), "is on the meta device"),
        (lambda model: model.register_buffer("mine", torch.zeros(3)), "tensor 'mine' is unknown"),
        (lambda model: setattr(model, "head", torch.nn.Linear(7, 3)), r"tensor 'head.bias' has shape \(3,\)"),
        (lambda model: object.__setattr__(model.config, "sample_rate", 1.5), "configuration"),
        (lambda model: object.__setattr__(model.config, "speakers", {1}), "configuration"),
    ],
)
def test_saving_refuses_what_could_not_be_read(
    tmp_path: Path, spoil: Callable[[WaveNet], object], message: str
) -> None:
    model = small_model().float()
    spoil(model)
    with pytest.raises(ValueError, match=message):
        model.save_pretrained(tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_saving_draws_no_random_number(tmp_path: Path) -> None:
    model = small_model().float()
    before = torch.get_rng_state()
    model.save_pretrained(tmp_path / "x.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
