"""Which clips of a corpus are held out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A rule that holds clips out.

    With `share`, from 0 to under 1, that share of all clips, chosen by a hash of their names. With `label` and `share`,
    that share of the label's values, chosen by a hash of the value: all clips with the same value fall on the same
    side. With `label` and `values`, exactly the clips whose label has one of these values.

    >>> takes = HeldOut(label="take", values=("0", "1"))
    >>> takes.split("7_theo_0", {"digit": "7", "take": "0"}), takes.split("7_theo_2", {"digit": "7", "take": "2"})
    ('test', 'train')
    """

    share: float | None = None
    label: str | None = None
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share < 1:
            raise ValueError(f"held_out is {self.share}; expected a share from 0 to under 1")
        if (self.share is None) is not bool(self.values) or (self.values and self.label is None) or self.label == "":
            raise ValueError(f"held_out is {self}; expected a share, a label and a share, or a label and its values")
        if isinstance(self.values, str) or "" in self.values:
            raise ValueError(
                f"held_out is by the values {self.values!r}; expected a tuple of texts, none of them empty"
            )

    @property
    def share_of_names(self) -> float | None:
        """The share, if the hash of a clip's name decides, and none of its labels."""
        return self.share if self.label is None else None

    def split(self, name: str, labels: Mapping[str, str]) -> str:
        """The split of a clip, `test` or `train`; `ValueError` if it lacks the label that decides."""
        if self.label is None:
            return stable_split(name, self.share or 0)
        if self.label not in labels:
            there = ", ".join(labels) or "none"
            raise ValueError(f"held_out is by the label {self.label!r}, which {name} lacks; its labels: {there}")
        if self.values:
            return "test" if labels[self.label] in self.values else "train"
        return stable_split(labels[self.label], self.share or 0)


def stable_split(name: str, held_out: float) -> str:
    """`test` for a share `held_out` of all names, else `train`.

    A hash of the name decides, so adding recordings to a corpus moves none from one split to the other.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"
