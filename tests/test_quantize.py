import pytest
import torch
from torchaudio import functional

from wavenet.network import compand, decode_mu_law, encode_mu_law, expand, silence_class
from wavenet.network.quantize import check_classes

CLASSES = (4, 256, 1024, 65536)


@pytest.mark.parametrize("classes", CLASSES)
def test_every_level_survives_the_round_trip(classes: int) -> None:
    indices = torch.arange(classes)
    assert torch.equal(encode_mu_law(decode_mu_law(indices, classes), classes), indices)


@pytest.mark.parametrize("classes", CLASSES)
def test_round_trip_error_is_at_most_half_a_level(classes: int) -> None:
    waveform = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    decoded = decode_mu_law(encode_mu_law(waveform, classes), classes)
    error = (compand(waveform, classes) - compand(decoded.double(), classes)).abs().max()
    assert error <= 1 / (classes - 1) + 1e-6, "1e-6: decoded is float32"


def test_encoding_is_what_torchaudio_computes() -> None:
    waveform = torch.linspace(-1, 1, 9_999)
    assert torch.equal(encode_mu_law(waveform, 256), functional.mu_law_encoding(waveform, 256))


@pytest.mark.parametrize("classes", CLASSES)
def test_silence_is_the_class_nearest_to_zero(classes: int) -> None:
    levels = decode_mu_law(torch.arange(classes), classes).abs()
    torch.testing.assert_close(levels[silence_class(classes)], levels.min())


def test_values_beyond_full_scale_are_clipped() -> None:
    assert encode_mu_law(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_expand_undoes_compand() -> None:
    waveform = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(expand(compand(waveform, 256), 256), waveform)


@pytest.mark.parametrize("classes", [0, 2, 100, 257, 131072])
def test_classes_that_are_no_power_of_two_are_refused(classes: int) -> None:
    with pytest.raises(ValueError, match=f"classes is {classes}; expected a power of two"):
        check_classes(classes)


@pytest.mark.parametrize("waveform", [torch.zeros(3, dtype=torch.int16), torch.tensor([0.0, torch.nan])])
def test_what_is_no_waveform_is_refused(waveform: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"divide 16-bit integers by 32768|not finite"):
        encode_mu_law(waveform)
