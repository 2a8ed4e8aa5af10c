"""Frames to samples: where an impulse comes out, how far the model looks ahead, and what it refuses."""

from pathlib import Path

import pytest
import torch

from tests.conftest import CONDITIONINGS, conditioning_of, model_of_kind, small_config
from wavenet import Categorical, WaveNet
from wavenet.network import UPSAMPLERS, Conditioning, ConditioningConfig, LogMelConfig, multiply_adds
from wavenet.network.upsample import FrameUpsampler

HOP = 12


def conditioned(upsampler: str = "transposed") -> WaveNet:
    return model_of_kind((Categorical(), True, True, None, upsampler))


@pytest.mark.parametrize("scales", [(12,), (3, 4), (2, 2, 3)])
@pytest.mark.parametrize("kind", UPSAMPLERS)
def test_upsampler_starts_as_linear_interpolation(kind: str, scales: tuple[int, ...]) -> None:
    upsampler, frames = UPSAMPLERS[kind](2, scales).double(), torch.randn(1, 2, 9, dtype=torch.float64)
    points = upsampler(frames)
    margin = upsampler.margin
    inner = frames[:, :, margin : 9 - margin]
    expected = torch.nn.functional.interpolate(inner, (inner.shape[2] - 1) * HOP + 1, mode="linear", align_corners=True)
    torch.testing.assert_close(points, expected)
    torch.testing.assert_close(points[:, :, ::HOP], inner)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("hop", [1, 2, 12])
def test_frames_upsampler_starts_as_linear_interpolation(learned: bool, hop: int) -> None:
    upsampler, frames = FrameUpsampler(hop, learned=learned).double(), torch.randn(2, 9, 3, dtype=torch.float64)
    points = upsampler(frames)[:, : 8 * hop + 1].mT
    expected = torch.nn.functional.interpolate(frames.mT, 8 * hop + 1, mode="linear", align_corners=True)
    torch.testing.assert_close(points, expected)
    assert torch.equal(points[:, :, ::hop], frames.mT)


def test_a_learned_kernel_of_all_channels_is_a_transposed_convolution() -> None:
    upsampler, frames = FrameUpsampler(12, learned=True).double(), torch.randn(2, 9, 3, dtype=torch.float64)
    torch.nn.init.normal_(upsampler.kernel)
    kernel = upsampler.kernel.expand(3, 1, -1)
    expected = torch.nn.functional.conv_transpose1d(frames.mT, kernel, stride=12, padding=11, groups=3)
    torch.testing.assert_close(upsampler(frames)[:, : 8 * 12 + 1].mT, expected)


@pytest.mark.parametrize("upsampler", CONDITIONINGS)
@pytest.mark.parametrize("frame", [0, 3, 7])
def test_an_impulse_in_frame_f_reaches_the_samples_that_look_ahead_says(upsampler: str, frame: int) -> None:
    model = conditioned(upsampler)
    assert model.conditioner is not None
    features = torch.zeros(1, 5, 8, dtype=torch.float64)
    features[:, :, frame] = 1.0
    flat, impulse = (Conditioning(torch.tensor([0]), f) for f in (torch.zeros_like(features), features))
    begin, end = -100, 200
    difference = (model.conditioner(impulse, begin, end) - model.conditioner(flat, begin, end)).abs().sum(dim=2)[0]
    reached = torch.nonzero(difference).squeeze(1) + begin
    # context_frames = 1 and the next frame; smoothing by 3 points of 4 samples and by 4 of 1 adds a hop and a third
    reach = 2 * HOP - 1 + (HOP + HOP // 3 if upsampler == "interpolation" else 0)
    assert reach < model.alignment.look_ahead * HOP <= reach + HOP
    assert reached.min() == frame * HOP - reach, "the first sample that sees the frame"
    assert reached.max() == frame * HOP + reach, "the last one: as far after as before, so frame f lies at f * hop"


@pytest.mark.parametrize("upsampler", CONDITIONINGS)
def test_biases_do_not_depend_on_the_stretch_they_are_asked_for_in(upsampler: str) -> None:
    model = conditioned(upsampler)
    assert model.conditioner is not None
    conditioning = conditioning_of(model)
    whole = model.conditioner(conditioning, -60, 150)
    for start, stop in ((-60, -59), (-7, 40), (0, 12), (11, 13), (37, 150)):
        torch.testing.assert_close(model.conditioner(conditioning, start, stop), whole[:, start + 60 : stop + 60])


@pytest.mark.parametrize("upsampler", CONDITIONINGS)
def test_biases_layer_by_layer_are_those_of_all_layers(upsampler: str) -> None:
    model = conditioned(upsampler)
    assert model.conditioner is not None
    conditioning = conditioning_of(model)
    starts, whole = (-7, 11, 12), model.conditioner(conditioning, -7, 40)
    layers = model.conditioner.by_layer(conditioning, starts, 40)
    for start, found, expected in zip(starts, layers, whole.chunk(3, dim=2), strict=True):
        torch.testing.assert_close(found, expected[:, start + 7 :])


def test_without_activations_in_between_biases_of_frames_are_those_of_samples() -> None:
    by_sample, by_frame = conditioned("transposed"), conditioned("linear")
    assert by_sample.conditioner is not None
    assert by_frame.conditioner is not None
    by_sample.conditioner.upsampler.reset_parameters()
    state = {name: value for name, value in by_sample.state_dict().items() if "upsampler" not in name}
    by_frame.load_state_dict(state)
    by_frame.conditioner.context = by_sample.conditioner.context
    conditioning = conditioning_of(by_sample)
    expected = by_sample.conditioner(conditioning, -60, 150)
    found = by_frame.conditioner(conditioning, -60, 150)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)  # the fresh upsampler was made in float32


def test_biases_of_frames_cost_two_multiply_adds_each() -> None:
    by_sample, by_frame = conditioned("transposed"), conditioned("frames")
    biases = len(by_frame.blocks) * by_frame.config.gate_channels
    assert multiply_adds(by_frame) - multiply_adds(by_sample) == (2 - 3) * biases, "3 channels were projected"


@pytest.mark.parametrize("upsampler", ["frames", "linear"])
def test_a_model_file_keeps_a_projection_of_frames(upsampler: str, tmp_path: Path) -> None:
    model = conditioned(upsampler).float()
    model.save_pretrained(tmp_path / "model.safetensors")
    loaded = WaveNet.from_pretrained(tmp_path / "model.safetensors")
    assert loaded.config.conditioning == model.config.conditioning
    conditioning = conditioning_of(model)
    assert torch.equal(loaded.conditioner(conditioning, -7, 40), model.conditioner(conditioning, -7, 40))


def test_a_speaker_is_one_bias_for_the_whole_clip() -> None:
    model = model_of_kind((Categorical(), True, False, None, "transposed"))
    assert model.conditioner is not None
    assert model.conditioner(model.condition(2, speaker=["ann", "bob"]), 0, 50).shape == (2, 1, 30)


def test_an_external_vector_stands_for_a_speaker() -> None:
    named = model_of_kind((Categorical(), True, False, None, "transposed"))
    vector = WaveNet(small_config(speaker_channels=2)).double()
    assert named.conditioner is not None
    assert named.conditioner.table is not None
    state = {name: value for name, value in named.state_dict().items() if name != "conditioner.table.weight"}
    vector.load_state_dict(state)
    symbols = torch.randint(256, (1, 20), generator=torch.Generator().manual_seed(0))
    row = named.conditioner.table.weight[1].detach()
    expected = named(symbols, named.condition(speaker="bob"))
    torch.testing.assert_close(vector(symbols, vector.condition(speaker=row)), expected)


def test_frames_beyond_a_clip_are_silence() -> None:
    conditioning = Conditioning(features=torch.ones(1, 2, 3), silence=-9.0, first_frame=1)
    assert conditioning.frames(-1, 6)[0, 0].tolist() == [-9, -9, 1, 1, 1, -9, -9]
    assert conditioning.frames(10, 12)[0, 0].tolist() == [-9, -9]
    assert conditioning.frames(-5, -3)[0, 0].tolist() == [-9, -9]
    assert conditioning.frames(2, 3)[0, 0].tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "zoe"}, "speaker 'zoe' is unknown; the model knows ann, bob, eve"),
        ({"speaker": None}, "needs a speaker by name; it knows ann, bob, eve"),
        ({"speaker": ["ann"]}, "1 speakers given for a batch of 2"),
        ({"features": None}, r"features are missing; the model needs a tensor \(5, frames\)"),
        ({"features": torch.zeros(4, 8)}, r"features have shape \(4, 8\); the model needs \(5, frames\)"),
        ({"features": [torch.zeros(5, 8)]}, "features of 1 clips given for a batch of 2"),
        ({"features": torch.full((5, 8), torch.inf)}, "not finite"),
    ],
)
def test_conditioning_that_does_not_fit_is_refused(options: dict[str, object], message: str) -> None:
    model = conditioned()
    with pytest.raises(ValueError, match=message):
        model.condition(2, **{"speaker": "ann", "features": torch.zeros(5, 8), **options})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"features": LogMelConfig(hop=256)},
            r"scales are \[10, 20\], whose product is 200; expected the features' hop",
        ),
        ({"features": LogMelConfig(high_hertz=9000.0)}, "half the sample rate"),
        ({"conditioning": ConditioningConfig(channels=9)}, "conditioning is set, and the model has no features"),
        ({"speakers": ("a\nb",), "speaker_channels": 2}, "expected printable names"),
        ({"speakers": ("ann",)}, "speaker_channels is missing"),
        ({"speakers": ("ann", "ann"), "speaker_channels": 2}, "names one twice"),
        ({"pre_emphasis": 1.0}, "pre_emphasis is 1.0"),
    ],
)
def test_contradictions_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config(**values)


def test_conditioning_of_a_plain_model_is_refused() -> None:
    model = WaveNet(small_config())
    with pytest.raises(ValueError, match="knows no speakers"):
        model.condition(speaker="ann")
    with pytest.raises(ValueError, match="not conditioned on features"):
        model.condition(features=torch.zeros(80, 3))


def test_default_channels_are_wide_where_they_cost_little() -> None:
    by_sample, by_frame = ConditioningConfig(), ConditioningConfig(projection="frames")
    assert (by_sample.channels, by_sample.context_channels, by_sample.upsampler) == (32, 96, "transposed")
    assert (by_frame.channels, by_frame.context_channels, by_frame.upsampler) == (256, 256, "transposed")


@pytest.mark.parametrize(
    "values",
    [
        {"scales": ()},
        {"scales": (0,)},
        {"channels": 0},
        {"context_frames": -1},
        {"projection": "layers"},
        {"upsampler": "linear"},
        {"projection": "frames", "upsampler": "interpolation"},
        {"projection": "frames", "scales": (200,)},
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|a projection of \w+ needs"):
        ConditioningConfig(**values)
