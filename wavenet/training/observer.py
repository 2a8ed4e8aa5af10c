"""Who watches a run of training."""

from typing import Protocol

from wavenet.network import Conditioning, WaveNet

__all__ = ["Observer", "Silence"]


class Observer(Protocol):
    """Who watches a run. All of it is optional reading; nothing here changes the run."""

    def note(self, message: str) -> None:
        """Something worth one line, said once."""

    def stepped(self, step: int, bits: float) -> None:
        """A step is done: its number, from 1, and its training loss in bits per sample."""

    def logged(self, record: dict[str, float]) -> None:
        """A line went to `metrics.jsonl`."""

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        """Held-out bits per sample of the averaged model at this step; `example` is a held-out clip's conditioning."""


class Silence:
    """An observer that says nothing."""

    def note(self, message: str) -> None:
        pass

    def stepped(self, step: int, bits: float) -> None:
        pass

    def logged(self, record: dict[str, float]) -> None:
        pass

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        pass
