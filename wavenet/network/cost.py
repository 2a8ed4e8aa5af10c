"""Count the operations of a model."""

from wavenet.network.model import WaveNet


def multiply_adds(model: WaveNet) -> int:
    """Multiply-adds per generated sample: every matrix that is applied at each sample once, and linear prediction.

    The embedding is a table look-up. Conditioning's cost per frame is left out. Its projection is counted if it is
    applied at each sample; if it is applied to frames, the interpolation of each bias between two frames.
    """
    stack = [model.blocks, model.skip, model.head, model.output]
    local = getattr(model.conditioner, "local", None)
    interpolation = 0
    if model.frame_conditioner is not None:
        interpolation = 2 * len(model.blocks) * model.config.gate_channels
    elif local is not None:
        stack.append(local)
    matrices = sum(p.numel() for module in stack for p in module.parameters() if p.dim() == 2)
    return matrices + interpolation + (0 if model.predictor is None else model.predictor.order)
