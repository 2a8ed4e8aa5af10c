"""Augmentation: off changes nothing, each change is what it says, and a seed gives the same changes."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torchaudio import functional

from wavenet.data import Augmentation, Source, WindowSampler, as_sources, tensor_clips
from wavenet.data.augmentation import _through_mp3
from wavenet.network import encode_mu_law

NAMES = [field.name for field in fields(Augmentation)]
MOST = {"input_noise": 1.0, "tilt_db": 6.0, "level_db": 30.0}


def spectrum(window: Tensor) -> Tensor:
    """The magnitudes of a window of one second: bin f lies at f hertz."""
    return torch.fft.rfft(window).abs()


def noise(samples: int = 16000) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(0)).clamp(-4, 4) / 10


def applied(window: Tensor, seed: int = 0, **changes: float) -> tuple[Tensor, Tensor | None]:
    return Augmentation(**changes).apply(window, 16000, [seed])


def test_off_changes_nothing() -> None:
    changed, given = applied(noise())
    assert torch.equal(changed, noise())
    assert given is None


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    settings = {name: MOST.get(name, 1.0)}
    first, again, other = (applied(noise(), seed, **settings)[name == "input_noise"] for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, noise())
    assert name == "mu_law_share" or not torch.equal(first, other)


def test_input_noise_is_in_steps_of_mu_law_and_in_the_inputs_alone() -> None:
    for amplitude in (0.0, 0.02, 0.5):
        window = torch.full((16000,), amplitude)
        strengths = []
        for seed in range(50):
            changed, given = applied(window, seed, input_noise=2.0)
            assert given is not None
            assert torch.equal(changed, window)
            strengths.append(float((given - window).std()) / _step(amplitude))
        assert max(strengths) == pytest.approx(2.0, rel=0.1)
        assert min(strengths) < 0.2
        assert sum(strengths) / 50 == pytest.approx(1.0, rel=0.25)


def _step(amplitude: float) -> float:
    """The width of a level of 8-bit µ-law there, by searching for its edges."""
    values = torch.linspace(max(amplitude - 0.1, -1), amplitude + 0.1, 2_000_001, dtype=torch.float64)
    levels = encode_mu_law(values.float())
    level = encode_mu_law(torch.tensor(amplitude))
    inside = values[levels == level]
    return float(inside[-1] - inside[0])


def test_levels_fall_evenly_up_to_the_range() -> None:
    factors = [float(applied(noise(), seed, level_db=20.0)[0].std() / noise().std()) for seed in range(200)]
    decibels = [20 * math.log10(factor) for factor in factors]
    assert -20 <= min(decibels) < -18
    assert -2 < max(decibels) <= 0
    assert sum(decibels) / 200 == pytest.approx(-10, abs=1.2)


def test_tilt_is_so_many_decibels_an_octave() -> None:
    slopes = []
    for seed in range(50):
        gains = 20 * torch.log10(spectrum(applied(noise(), seed, tilt_db=3.0)[0]) / spectrum(noise()))
        slope = float(gains[4000] - gains[2000])
        assert float(gains[2000] - gains[1000]) == pytest.approx(slope, abs=0.05), "a straight line over octaves"
        slopes.append(slope)
    assert -3 <= min(slopes) < -2
    assert 2 < max(slopes) <= 3


def test_a_band_keeps_speech_and_loses_the_edges() -> None:
    for seed in range(20):
        gains = spectrum(applied(noise(), seed, band_share=1.0)[0]) / spectrum(noise())
        assert float(gains[1000:2500].min()) > 0.9
        assert float(gains[:20].max()) < 0.05


def test_noise_lies_20_to_60_decibels_below() -> None:
    ratios = []
    for seed in range(50):
        added = applied(noise(), seed, noise_share=1.0)[0] - noise()
        ratios.append(-20 * math.log10(float(added.std() / noise().std())))
    assert 19.5 < min(ratios) < 24
    assert 56 < max(ratios) < 60.5


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_mp3_keeps_speech_in_its_place_at_every_rate(rate: int) -> None:
    window = functional.lowpass_biquad(noise(), rate, 1000.0)
    for seed in range(12):
        changed = Augmentation(mp3_share=1.0).apply(window, rate, [seed])[0]
        assert changed.shape == window.shape
        assert not torch.equal(changed, window)
        spectra = torch.fft.rfft(changed, 2 * len(window)), torch.fft.rfft(window, 2 * len(window))
        assert int(torch.fft.irfft(spectra[0] * spectra[1].conj()).argmax()) == 0, "no delay"
        assert float((changed - window)[2000:-2000].std() / window.std()) < 0.7


def test_mp3_has_the_bit_rate_it_was_asked_for() -> None:
    """Fewer bits lose more; the same kilobits lose about the same at rates of one table."""
    window = noise()
    losses = [float((_through_mp3(window, 16000, rate) - window).std()) for rate in (24, 40, 64, 160)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 1.5 * losses[-1]


def test_nothing_leaves_the_range() -> None:
    loud = noise() * 10 / (noise() * 10).abs().max()
    everything = {name: MOST.get(name, 1.0) for name in NAMES if name != "input_noise"}
    for seed in range(20):
        assert float(applied(loud, seed, **everything)[0].abs().max()) <= 1


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"band_share is 2\.0; expected 0 to 1"):
        Augmentation(band_share=2.0)
    with pytest.raises(ValueError, match="input_noise is -1; expected 0 to 100"):
        Augmentation(input_noise=-1)
    with pytest.raises(ValueError, match="mp3_share is set, and the sample rate is 10000; MP3 has 8000"):
        Augmentation(mp3_share=0.5).check_rate(10000)


def sampler(**changes: float) -> WindowSampler:
    sources = as_sources(tensor_clips([noise(3000), noise(500)], 16000), 16000)
    return WindowSampler(
        sources=sources,
        context=64,
        window=256,
        batch_size=6,
        seed=1,
        augmentation=Augmentation(**changes) if changes else None,
    )


def test_some_rows_of_a_batch_are_those_of_the_whole() -> None:
    changing = sampler(input_noise=1.0, tilt_db=3.0, level_db=20.0, noise_share=0.5)
    whole, part = changing.batch(3), changing.batch(3, slice(2, 4))
    assert whole.inputs is not None
    assert part.inputs is not None
    assert torch.equal(part.inputs, whole.inputs[2:4])
    assert torch.equal(part.samples, whole.samples[2:4])
    assert len({float(row.std()) for row in whole.inputs - whole.samples}) == 6, "each window draws for itself"
    assert not torch.equal(changing.batch(4).samples, whole.samples)


def test_beyond_a_clip_there_is_still_silence() -> None:
    for step in range(20):
        plain, noisy = (made.batch(step) for made in (sampler(), sampler(input_noise=1.0, noise_share=1.0)))
        assert noisy.inputs is not None
        beyond = torch.zeros_like(plain.samples, dtype=torch.bool)
        for row, (clip, time) in enumerate(zip(plain.clips, plain.times.tolist(), strict=True)):
            index = torch.arange(beyond.shape[1]) + time
            beyond[row] = (index < 0) | (index >= clip.samples)
        assert not noisy.samples[beyond].any()
        assert not noisy.inputs[beyond].any()
        assert noisy.inputs[~beyond].all()


def test_what_a_window_draws_says_nothing_of_its_source() -> None:
    sources = tuple(Source(tensor_clips([noise(3000) * level], 16000)) for level in (0.1, 1.0))
    made = WindowSampler(
        sources=sources, context=0, window=500, batch_size=1, seed=0, augmentation=Augmentation(noise_share=0.5)
    )
    plain = replace(made, augmentation=None)
    table = torch.zeros(2, 2)
    for step in range(400):
        noisy = not torch.equal(made.batch(step).samples, plain.batch(step).samples)
        table[int(plain.batch(step).clips[0] is sources[1].clips[0]), int(noisy)] += 1
    shares = table[:, 1] / table.sum(dim=1)
    assert abs(float(shares[0] - shares[1])) < 0.15
    assert float(table.min()) > 60


def test_augmentation_draws_the_same_windows() -> None:
    plain, noisy = sampler().batch(5), sampler(input_noise=1.0).batch(5)
    assert plain.inputs is None
    assert torch.equal(plain.samples, noisy.samples)
    assert torch.equal(plain.times, noisy.times)
