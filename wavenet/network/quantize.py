"""µ-law companding and class indices (WaveNet paper, section 2.2; ITU-T G.711).

A waveform in [-1, 1] is companded, `f(x) = sign(x) ln(1 + µ|x|) / ln(1 + µ)` with `µ = classes - 1`, and
rounded to the nearest of `classes` equally spaced levels. Quiet samples get fine steps, loud ones coarse.
"""

import math

import torch
from torch import Tensor


def check_classes(classes: int) -> None:
    """Raise `ValueError` unless `classes` is a power of two from 4 to 65536."""
    if classes < 4 or classes > 65536 or classes & (classes - 1):
        raise ValueError(f"classes is {classes}; expected a power of two from 4 to 65536, such as 256")


def check_waveform(waveform: object, name: str = "waveform") -> None:
    """Raise `ValueError` unless this is a tensor of finite floating-point numbers; the error calls it `name`."""
    if not isinstance(waveform, Tensor):
        raise ValueError(
            f"{name} is a {type(waveform).__name__}; expected a tensor, as torch.from_numpy makes of arrays"
        )
    if not waveform.is_floating_point():
        raise ValueError(
            f"{name} is {waveform.dtype} of shape {tuple(waveform.shape)}; expected floating point in [-1, 1]: divide "
            "16-bit integers by 32768"
        )
    check_dense(waveform, name)
    if not bool(waveform.isfinite().all()):
        raise ValueError(f"{name} has samples that are not finite (NaN or infinity); leave them out or mend them")


def check_dense(tensor: Tensor, name: str) -> None:
    """Raise `ValueError` for a sparse tensor, and for one on the meta device; the error calls it `name`."""
    if tensor.is_meta or tensor.layout != torch.strided:
        found = "on the meta device" if tensor.is_meta else f"of layout {tensor.layout}"
        raise ValueError(f"{name} is a tensor {found}; expected one with values, as to_dense() makes of sparse ones")


def check_level(waveform: Tensor, name: str = "waveform") -> None:
    """Raise `ValueError` if the peak is over 2: such samples are in another unit, and would be clipped to noise."""
    peak = float(waveform.detach().abs().max()) if waveform.numel() else 0.0
    if peak > 2:
        raise ValueError(f"{name} has a peak of {peak:.6g}; expected [-1, 1]: scale it down (16-bit integers by 32768)")


def full_precision(waveform: Tensor) -> Tensor:
    """Half precision as float32: it has fewer steps than audio."""
    return waveform.float() if waveform.dtype in (torch.float16, torch.bfloat16) else waveform


def compand(waveform: Tensor, classes: int) -> Tensor:
    """µ-law companding, [-1, 1] -> [-1, 1], any shape; values outside are clipped."""
    mu = classes - 1
    clipped = waveform.clamp(-1.0, 1.0)
    return clipped.sign() * torch.log1p(mu * clipped.abs()) / math.log1p(mu)


def expand(companded: Tensor, classes: int) -> Tensor:
    """Inverse of `compand`, any shape."""
    mu = classes - 1
    return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu


def encode_mu_law(waveform: Tensor, classes: int = 256) -> Tensor:
    """Quantize a waveform in [-1, 1] to class indices.

    Shape: any -> the same, int64 in [0, classes). Values outside [-1, 1] are clipped. Raises `ValueError` if the
    waveform is not finite floating point.

    >>> encode_mu_law(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([  0, 128, 255])
    """
    check_classes(classes)
    check_waveform(waveform)
    return quantize(full_precision(waveform), classes)


def quantize(waveform: Tensor, classes: int) -> Tensor:
    """`encode_mu_law` without its checks, which would make a compiled step wait for the device."""
    levels = (compand(waveform, classes) + 1) / 2 * (classes - 1)
    return (levels + 0.5).floor().long()


def decode_mu_law(indices: Tensor, classes: int = 256) -> Tensor:
    """Turn class indices back into a float32 waveform in [-1, 1], each at its level's centre.

    Computed in float64, so that devices round to the same samples. (MPS has none, and differs by a rounding.)

    >>> decode_mu_law(torch.tensor([0, 255]))
    tensor([-1.,  1.])
    """
    check_classes(classes)
    if not isinstance(indices, Tensor) or indices.is_floating_point():
        found = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        raise ValueError(f"indices are {found}; expected a tensor of whole numbers, as encode_mu_law gives")
    exact = torch.float32 if indices.device.type == "mps" else torch.float64
    companded = (2 * indices.long() - (classes - 1)).to(exact) / (classes - 1)
    return expand(companded, classes).to(torch.float32)


def silence_class(classes: int = 256) -> int:
    """The class of a sample of value 0.0.

    >>> silence_class(256)  # 0.0 lies between the levels of 127 and 128
    128
    """
    return int(quantize(torch.zeros(()), classes))
