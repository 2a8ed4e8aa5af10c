"""The rates themselves are a benchmark, `wavenet bench --train`; here, that it measures what it says."""

import torch

from tests.conftest import small_config
from wavenet import WaveNet
from wavenet.benchmark import measure_training, train_cases
from wavenet.benchmark.training import PlainWaveNet, TrainCase
from wavenet.network import compand, multiply_adds


def test_the_plain_network_computes_the_same_function() -> None:
    torch.manual_seed(0)
    config = small_config()
    ours, plain = WaveNet(config).double(), PlainWaveNet(config).double()
    table = ours.embedding(compand(ours.distribution.decode(torch.arange(256)).double(), 256)[:, None])
    skip = ours.skip.weight.split(config.gate_channels // 2, dim=1)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
        plain.first.weight.copy_(table.T[:, :, None])
        for index, block in enumerate(ours.blocks):
            taps = block.conv.weight.view(config.gate_channels, config.kernel_size, -1).transpose(1, 2)
            plain.gates[index].weight.copy_(taps)
            plain.gates[index].bias.copy_(block.conv.bias)
            plain.skips[index].weight.copy_(skip[index][:, :, None])
            if block.residual is not None:
                plain.residuals[index].weight.copy_(block.residual.weight[:, :, None])
        plain.skips[0].bias.copy_(ours.skip.bias)
        for name in ("head", "output"):
            getattr(plain, name).weight.copy_(getattr(ours, name).weight[:, :, None])
            getattr(plain, name).bias.copy_(getattr(ours, name).bias)
    symbols = torch.randint(256, (2, 60))
    expected = ours(symbols)
    torch.testing.assert_close(plain(symbols)[:, :, -expected.shape[2] :], expected, atol=1e-10, rtol=0)


def test_every_case_is_measured() -> None:
    config = small_config()
    cases = [TrainCase("plain", keeps=False), TrainCase("wavenet", recompute=True), TrainCase("products")]
    assert {case.network for case in train_cases(torch.device("cpu"))} == {case.network for case in cases}
    rows = measure_training(config, [*cases, TrainCase("wavenet", batch=1, window=500)], rounds=1)
    assert [row.case for row in rows[:3]] == cases
    operations = 6 * multiply_adds(WaveNet(config))
    assert len({round(row.rate * operations / row.share) for row in rows}) == 1, "one rate of products for all"
    assert all(row.rate > 0 and row.memory > 2**25 for row in rows)
