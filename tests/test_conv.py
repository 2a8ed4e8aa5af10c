import pytest
import torch
from torch.nn import functional

from wavenet import CausalConv1d


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (2, 1), (2, 5), (3, 4), (5, 1)])
def test_equals_torch_convolution(kernel_size: int, dilation: int) -> None:
    conv = CausalConv1d(3, 4, kernel_size, dilation).double()
    x = torch.randn(2, 40, 3, dtype=torch.float64)
    kernel = conv.weight.view(4, kernel_size, 3).transpose(1, 2)
    expected = functional.conv1d(x.transpose(1, 2), kernel, conv.bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(conv(x), expected)


def test_pieces_with_their_history_equal_the_whole() -> None:
    conv = CausalConv1d(3, 4, kernel_size=3, dilation=2).double()
    x = torch.randn(2, 30, 3, dtype=torch.float64)
    pieces = [conv(x[:, start : start + 5], history=x[:, start - conv.context : start]) for start in range(5, 30, 5)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), conv(x)[:, 1:])


def test_zero_history_is_causal_zero_padding() -> None:
    conv = CausalConv1d(1, 1, kernel_size=2, dilation=3)
    x = torch.randn(1, 8, 1)
    padded = functional.pad(x, (0, 0, conv.context, 0))
    torch.testing.assert_close(conv(x, history=torch.zeros(1, conv.context, 1)), conv(padded))


def test_impossible_sizes_are_refused() -> None:
    for kernel_size, dilation in ((0, 1), (2, 0)):
        with pytest.raises(
            ValueError, match=f"kernel_size is {kernel_size} and dilation {dilation}; expected at least"
        ):
            CausalConv1d(1, 1, kernel_size, dilation)


def test_it_has_the_manners_of_a_layer_of_torch() -> None:
    conv = CausalConv1d(3, 4, kernel_size=2, dilation=8, device="cpu", dtype=torch.float64)
    assert repr(conv) == "CausalConv1d(3, 4, kernel_size=2, dilation=8)"
    assert conv.weight.dtype == torch.float64
    before = conv.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(conv.weight, before)
    assert CausalConv1d(3, 4, kernel_size=2, device="meta").weight.is_meta
