"""Batches that processes read ahead are those of the sampler."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavenet import tensor_clips
from wavenet.data import Augmentation, Batch, BatchReader, Source, TensorClip, WindowSampler
from wavenet.machine import alone_in

CLIPS = tensor_clips([torch.rand(500 + 40 * number) - 0.5 for number in range(5)], 16000)
SAMPLER = WindowSampler(
    sources=(Source(CLIPS),), context=64, window=100, batch_size=6, seed=3, augmentation=Augmentation(input_noise=1.0)
)
PARTS = [slice(0, 2), slice(2, 6)]


def same(one: Batch, other: Batch) -> bool:
    tensors = ("samples", "scored", "times", "inputs")
    equal = all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)
    return equal and one.clips == other.clips and one.scored_in_all == other.scored_in_all


def test_reading_ahead_gives_the_batches_of_the_sampler() -> None:
    reader = BatchReader(SAMPLER, PARTS, workers=2)
    for step in (0, 1, 2, 7, 8, 3):  # a run may resume at any step
        parts = reader.read(step)
        assert all(same(part, SAMPLER.batch(step, rows)) for part, rows in zip(parts, PARTS, strict=True)), step


def test_without_augmentation_there_are_no_inputs() -> None:
    (batch,) = BatchReader(replace(SAMPLER, augmentation=None), [slice(None)], workers=1).read(0)
    assert batch.inputs is None


@dataclass(frozen=True)
class Broken:
    """A clip on a disk that is gone, or whose reading ends the process."""

    kills: bool
    name: str = "broken"
    sample_rate: int = 16000
    samples: int = 500
    labels: dict[str, str] | None = None

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise FileNotFoundError("the disk is gone")


def reading(clip: Broken) -> BatchReader:
    return BatchReader(replace(SAMPLER, sources=(Source((clip,)),)), PARTS, workers=1)  # type: ignore[arg-type]


def test_an_error_arrives_as_it_is() -> None:
    with pytest.raises(FileNotFoundError, match=r"^the disk is gone$"):
        reading(Broken(kills=False)).read(0)


def test_a_killed_process_is_named() -> None:
    with pytest.raises(OSError, match="a process that reads audio was killed, perhaps for lack of memory"):
        reading(Broken(kills=True)).read(0)


def test_clips_need_not_be_pickled() -> None:
    @dataclass(frozen=True, eq=False)
    class Local(TensorClip):
        """Its class is no module's, so it cannot be pickled."""

    clip = Local(torch.rand(800) - 0.5, 16000)
    sampler = replace(SAMPLER, sources=(Source((clip,)),))
    (batch,) = BatchReader(sampler, [slice(None)], workers=1).read(4)
    assert same(batch, sampler.batch(4))


def test_a_closed_reader_leaves_no_process_that_holds_a_lock(tmp_path: Path) -> None:
    reader = BatchReader(SAMPLER, PARTS, workers=2)
    with alone_in(tmp_path):
        reader.read(0)
        reader.close()
    with alone_in(tmp_path):
        assert same(reader.read(1)[0], SAMPLER.batch(1, PARTS[0]))
