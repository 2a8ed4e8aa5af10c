"""What a model sounds like while it is trained: a little audio at each evaluation, made beside the training."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from wavenet.conditioning import Conditioning
from wavenet.generation import generate_scored
from wavenet.model import WaveNet
from wavenet.sampling import SamplingOptions

__all__ = ["Listener", "sample"]


def sample(model: WaveNet, example: Conditioning, seconds: float) -> Tensor:
    """Audio `(T,)` under the example's conditioning, always from the same uniforms."""
    samples = max(1024, int(seconds * model.config.sample_rate))
    if example.features is not None and model.config.features is not None:
        samples = min(samples, example.features.shape[2] * model.config.features.hop)
    return generate_scored(model, samples, SamplingOptions(), example).audio[0].cpu()


class Listener:
    """Generates `seconds` of a model's audio in a thread of its own and hands it, with the step, to the `hearers`.

    Training never waits for it: an evaluation that comes before the last one's audio is done is passed over.
    """

    def __init__(self, seconds: float, hearers: Sequence[Callable[[int, Tensor, int], None]]) -> None:
        self._seconds, self._hearers = seconds, hearers
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def evaluated(self, step: int, model: WaveNet, example: Conditioning) -> None:
        """`ValueError` or `OSError` where the last audio could not be made or written."""
        if self._last is not None and self._last.done():
            self._last.result()
        if self._last is None or self._last.done():
            self._last = self._thread.submit(self._work, step, copy.deepcopy(model), example)

    def _work(self, step: int, model: WaveNet, example: Conditioning) -> None:
        audio = sample(model, example, self._seconds)
        for hear in self._hearers:
            hear(step, audio, model.config.sample_rate)

    def close(self) -> None:
        """Wait for the last audio."""
        self._thread.shutdown()
        if self._last is not None:
            self._last.result()
