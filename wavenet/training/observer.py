"""An observer watches a run, and a keeper stores what it makes."""

from collections.abc import Mapping

from wavenet.network import Conditioning, WaveNet


class Observer:
    """Watches a run, and cannot change it. Its methods do nothing: a subclass overrides those that it needs."""

    def note(self, message: str) -> None:
        """Called with a message of one line."""

    def stepped(self, step: int, bits: float) -> None:
        """Called after a step with its number, from 1, and its training loss in bits per sample."""

    def logged(self, record: dict[str, float]) -> None:
        """Called with each record of metrics; a run folder has them in `metrics.jsonl`."""

    def evaluated(self, step: int, bits: float, model: WaveNet, example: Conditioning) -> None:
        """Called with the averaged model and its held-out bits per sample; `example` conditions on a held-out clip."""


class Keeper:
    """Stores what a run makes. This one stores nothing; `train` uses one that keeps a run folder."""

    def log(self, record: dict[str, float]) -> None:
        """Store a record of metrics."""

    def evaluated(self, bits: float, scores: Mapping[str, float]) -> None:
        """Store the averaged model, if its held-out bits per sample, or its free-running scores, make it worth it."""

    def save(self) -> None:
        """Store all that the run needs to go on from here."""
