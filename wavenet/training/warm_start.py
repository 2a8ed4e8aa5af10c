"""Start a model from the weights of another, as far as they fit."""

import torch

from wavenet.network import WaveNet

_TABLE = "conditioner.table.weight"
_COMPARED = (
    *("sample_rate", "kernel_size", "dilations", "distribution", "features", "tracks", "prediction", "pre_emphasis"),
)


@torch.no_grad()
def copy_fitting_weights(model: WaveNet, other: WaveNet) -> list[str]:
    """Copy the weights of `other` that fit by name and shape into `model`; labels' vectors by the labels' names.

    Returns notes: first which weights did not fit, in one line that is empty if all did, then a line for each setting
    in which the models differ. Raises `ValueError` if no weight fits.
    """
    own, theirs = model.state_dict(), other.state_dict()
    if model.config.tracks != other.config.tracks:  # statistics of other tracks
        theirs = {name: tensor for name, tensor in theirs.items() if not name.startswith("track_")}
    fitting = {name: tensor for name, tensor in theirs.items() if name in own and tensor.shape == own[name].shape}
    fresh, unused = own.keys() - fitting.keys(), theirs.keys() - fitting.keys()
    rows, known = _rows(model), _rows(other)
    if rows != known and _TABLE in own and _TABLE in theirs:
        fresh |= {row for row in rows if row not in known}
        fresh, unused = fresh - {_TABLE}, unused - {_TABLE}
        fitting[_TABLE] = own[_TABLE].clone()
        for row in set(rows) & set(known):
            fitting[_TABLE][rows.index(row)] = theirs[_TABLE][known.index(row)]
    if not fitting:
        raise ValueError("none of its weights fits this model; expected a similar model")
    model.load_state_dict({**own, **fitting})
    misfits = {
        "of another shape there, and fresh": fresh & unused,
        "not in it, and fresh": fresh - unused,
        "in it, and left out": unused - fresh,
    }
    notes = ["; ".join(f"{what}: {', '.join(sorted(weights))}" for what, weights in misfits.items() if weights)]
    for name in _COMPARED:
        before, now = getattr(other.config, name), getattr(model.config, name)
        if before != now:
            notes.append(f"it was trained with model.{name} {before}; here it is {now}")
    return notes


def _rows(model: WaveNet) -> list[str]:
    """The rows of the table of labels: `speaker ann` and so on."""
    return [f"{kind} {name}" for kind, names in model.config.known_labels.items() for name in names]
