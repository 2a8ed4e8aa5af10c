"""Generates a little audio at each evaluation, in a thread beside the training."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import torch
from torch import Tensor

from wavenet.generation import Stream, generate_chunks
from wavenet.network import Conditioning, WaveNet


class Listener:
    """Generates `seconds` of audio in a thread, and calls each of `callbacks` with the step, audio and sample rate.

    Training never waits: an evaluation is skipped if the audio of the last one is not done. A copy of the model
    generates on the CPU, which is where the fast engine is, and leaves a GPU to the training.
    """

    def __init__(self, seconds: float, callbacks: Sequence[Callable[[int, Tensor, int], None]]) -> None:
        self._seconds, self._callbacks = seconds, callbacks
        self._thread, self._cancelled = ThreadPoolExecutor(1), Event()
        self._last: Future[None] | None = None

    def evaluated(self, step: int, model: WaveNet, example: Conditioning) -> None:
        """Begin to generate. Raises the error of the last audio if it could not be made or written."""
        if self._last is not None and self._last.done():
            self._last.result()
        if self._last is None or self._last.done():
            labels, features = (None if t is None else t.cpu() for t in (example.labels, example.features))
            example = replace(example, labels=labels, features=features)
            self._last = self._thread.submit(self._work, step, copy.deepcopy(model).cpu(), example)

    def _work(self, step: int, model: WaveNet, example: Conditioning) -> None:
        """Generate with the example's conditioning, from the same uniforms each time."""
        samples = max(1024, int(self._seconds * model.config.sample_rate))
        if example.features is not None and model.config.features is not None:
            samples = min(samples, example.features.shape[2] * model.config.features.hop)
        chunks = []
        for chunk in generate_chunks(Stream(model, example), samples):
            if self._cancelled.is_set():
                return
            chunks.append(chunk.audio[0])
        for callback in self._callbacks:
            callback(step, torch.cat(chunks), model.config.sample_rate)

    def close(self, *, wait: bool) -> None:
        """End the thread: wait for the last audio, or cancel it."""
        if not wait:
            self._cancelled.set()
        self._thread.shutdown()
        if wait and self._last is not None:
            self._last.result()
