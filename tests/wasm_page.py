"""The engine of a page, run outside a browser: what worker.js does, in Python."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import wasmtime
from torch import Tensor

from wavenet import WaveNet
from wavenet.page.packing import pack_model

ENGINE = Path(__file__).parents[1] / "wavenet" / "page" / "engine.wasm"


@cache
def compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """The engine, compiled once for all tests of a process. Each page is an instance of its own."""
    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(ENGINE))


class WasmPage:
    """A model in the WebAssembly engine."""

    def __init__(self, model: WaveNet) -> None:
        engine, module = compiled()
        self.store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
        takes_whole = wasmtime.FuncType([wasmtime.ValType.i32()], [])
        linker.define_func("env", "emscripten_notify_memory_growth", takes_whole, lambda _: None)
        linker.define_func("wasi_snapshot_preview1", "proc_exit", takes_whole, self._exit)
        self.names = linker.instantiate(self.store, module).exports(self.store)
        self.bins = 1 if model.config.features is None else model.config.features.bins
        self.call("_initialize")
        self._give(np.frombuffer(pack_model(model), np.uint8), "open")

    def call(self, name: str, *arguments: object) -> Any:
        return self.names[name](self.store, *arguments)

    def copy(self, waveform: Tensor) -> Tensor:
        """Speak from a recording `(T,)`; its features `(bins, F)`."""
        self._give(waveform.numpy(), "copy", len(waveform))
        return self._features()

    def say(self, labels: Sequence[tuple[float, float, int]], choice: int) -> Tensor:
        """Speak from timed labels: start, end, and the number of the name, 0 for a pause; their features."""
        self._give(np.array(labels, np.float64), "say", len(labels), choice)
        return self._features()

    def speak(self, *pieces: int, choice: int = 0, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """A clip from its beginning, made in pieces of so many samples: `(T,)`."""
        self.call("begin", choice, seed, temperature)
        return torch.cat([self._floats(self.call("make", piece), piece) for piece in pieces])

    def columns(self) -> Tensor:
        """The spectra of the last piece, `(columns, 128)`, 0 to 255."""
        at, count = self.call("columns"), self.call("column_bytes")
        return torch.frombuffer(self._read(at, count), dtype=torch.uint8).view(-1, 128)

    def _features(self) -> Tensor:
        return self._floats(self.call("features"), self.call("feature_count")).view(-1, self.bins).T

    def _give(self, numbers: np.ndarray[Any, Any], name: str, *arguments: int) -> None:
        at = self.call("malloc", numbers.nbytes)
        self.names["memory"].write(self.store, numbers.tobytes(), at)
        self.call(name, at, *arguments)
        self.call("free", at)

    def _read(self, at: int, size: int) -> bytearray:
        return bytearray(self.names["memory"].read(self.store, at, at + size))

    def _floats(self, at: int, count: int) -> Tensor:
        return torch.frombuffer(self._read(at, 4 * count), dtype=torch.float32)

    @staticmethod
    def _exit(status: int) -> None:
        raise RuntimeError(f"the engine gave up with status {status}")
