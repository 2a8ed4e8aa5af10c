"""The places of frames among samples: frame f is centred on sample f * hop.

    sample   0         hop        2 hop       3 hop      T - 1
             |----------|----------|----------|----------|
    frame    0          1          2          3          4         F = T // hop + 1
         <---+---> the window of frame 0, half of it before the clip

A clip's frames are those from 0 to T // hop. Frames before and after them are silence.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Places a model's frames and prediction blocks on its sample axis.

    `hop`: samples per frame. `reach`: the conditioning of a sample is made of the frame at or before it, the next one,
    and `reach` more to either side; `None` for a model without features. `half_window`: samples on each side of a
    frame's centre from which the frame is computed. `block`: samples of a block of linear prediction. Blocks begin at 0
    too.

    >>> alignment = Alignment(hop=200, reach=2)
    >>> alignment.frames(16000), alignment.frames_around(400, 401), alignment.samples_ready(10)
    (81, (0, 5), 1400)
    """

    hop: int = 1
    reach: int | None = None
    half_window: int = 0
    block: int = 1

    def __post_init__(self) -> None:
        if self.hop < 1 or (self.reach is not None and self.reach < 0):
            raise ValueError(f"hop is {self.hop} and reach {self.reach}; expected at least 1, and at least 0 or None")

    @property
    def look_ahead(self) -> int:
        """Frames beyond the one at or before a sample that its conditioning is made of."""
        return 0 if self.reach is None else self.reach + 1

    @property
    def run_up(self) -> int:
        """Samples before a clip that its first frames can reach; before them the conditioning is that of silence."""
        return (self.look_ahead + 1) * self.hop

    @property
    def grid(self) -> int:
        """Windows of a clip that begin at multiples of this see frames and blocks at the same places."""
        return math.lcm(self.hop, self.block)

    @property
    def margin(self) -> int:
        """Samples to either side of a window that its frames are made of, a multiple of `grid`."""
        return self.round_up(self.half_window + (0 if self.reach is None else self.run_up))

    def round_up(self, samples: int) -> int:
        """Round `samples` up to a multiple of `grid`."""
        return -(-samples // self.grid) * self.grid

    def frames(self, samples: int) -> int:
        """How many frames a clip of that many samples has."""
        return samples // self.hop + 1

    def frames_around(self, start: int, stop: int) -> tuple[int, int]:
        """The first frame, and the one after the last, that condition samples `start` to `stop - 1`."""
        reach, (first, after) = self.reach or 0, self.frames_between(start, stop)
        return first - reach, after + reach

    def frames_between(self, start: int, stop: int) -> tuple[int, int]:
        """The first frame, and the one after the last, between which samples `start` to `stop - 1` lie."""
        return start // self.hop, math.ceil((stop - 1) / self.hop) + 1

    def samples_ready(self, frames: int) -> int:
        """How many samples of a clip can be generated once that many of its frames are known."""
        return (frames - self.look_ahead) * self.hop

    def first_frame_after(self, samples: int) -> int:
        """The first frame that samples from `samples` on, and their linear prediction, are made of."""
        return max(0, samples // self.hop - self.look_ahead)
