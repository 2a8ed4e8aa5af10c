"""Pictures show all there is to see, and stand beside each other on a page."""

import re

import pytest
import torch

from tests.conftest import tone
from wavenet.reporting.plots import draw_curves, draw_sound, to_svg


@pytest.mark.parametrize("place", [0, 601, 12_345, 240_600, 345_664, 479_999])
def test_a_click_anywhere_in_half_a_minute_of_silence_is_seen_where_it_is(place: int) -> None:
    waveform = torch.zeros(480_000)
    waveform[place] = 0.5
    _, below = draw_sound(waveform, 16000).axes
    (image,) = below.images
    loudest = torch.tensor(image.get_array()).amax(dim=0)
    assert loudest.max() > -60, "half of the height of a click, at the least"
    left, right, _, _ = image.get_extent()
    column = (place / 16000 - left) / (right - left) * len(loudest)
    assert int(loudest.argmax()) == min(int(column), len(loudest) - 1)
    assert 300 < len(loudest) < 500


@pytest.mark.parametrize("samples", [1, 511, 16_000, 160_000])
def test_a_sound_fills_the_width_of_its_picture(samples: int) -> None:
    above, below = draw_sound(torch.ones(samples) / 2, 16000).axes
    left, right, _, _ = below.images[0].get_extent()
    assert left <= 0
    assert right > (samples - 128) / 16000, "but for half a column"
    assert below.get_xlim() == above.get_xlim() == (0, samples / 16000)


def test_equal_pictures_on_a_page_share_no_names() -> None:
    sound = torch.from_numpy(tone())
    pictures = [to_svg(draw_sound(sound, 16000), "a tone", name) for name in ("first", "second")]
    names = [re.findall(r' id="([^"]*)"', markup) for markup in pictures]
    assert len(names[0]) == len(set(names[0])) > 5
    assert not set(names[0]) & set(names[1])
    for markup, own in zip(pictures, names, strict=True):
        assert set(re.findall(r'(?:"#|url\(#)([^")]*)', markup)) <= set(own), "each refers to its own"


def test_curves_of_unknown_samples_count_steps() -> None:
    records = [{"step": step, "held_out_bits": 3.0} for step in (1e6, 2e6)]
    (axes,) = draw_curves(records, None).axes
    assert axes.get_xlabel() == "steps"
    assert max(axes.lines[0].get_xdata()) == 2e6
    for samples, unit, last in ((100, "million samples trained on", 200), (None, "steps", 2e6)):
        (axes,) = draw_curves(records, samples).axes
        assert (axes.get_xlabel(), max(axes.lines[0].get_xdata())) == (unit, last)
