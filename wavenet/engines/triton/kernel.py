"""The kernel of the triton engine. Only this module imports triton.

A program owns `ROWS` streams and shares nothing with the others. Sizes are padded to powers of two, with zero weights.
Queues are rings with one entry more than the layer's context: the entry that a step writes was last read in the step
before. So one barrier per step is enough.
"""

import triton
import triton.language as tl


@triton.jit
def load_matrix(pointer: tl.tensor, inputs: tl.constexpr, outputs: tl.constexpr) -> tl.tensor:
    """Load a contiguous matrix `(inputs, outputs)`."""
    return tl.load(pointer + tl.arange(0, inputs)[:, None] * outputs + tl.arange(0, outputs)[None, :])


@triton.jit
def choose(
    logits: tl.tensor, uniforms: tl.tensor, temperature: tl.tensor, greedy: tl.constexpr, count: tl.constexpr
) -> tl.tensor:
    """Choose as `wavenet.network.sampling.choose` does, from `count` classes; also give their log-probabilities.

    The shares are computed in float32 and summed in float64.
    """
    classes = tl.arange(0, logits.shape[1])[None, :]
    shifted = logits - tl.max(logits, axis=1)[:, None]
    if greedy:
        chosen = tl.argmax(logits, axis=1)
    else:
        shares = tl.exp(shifted / temperature).to(tl.float64)
        thresholds = tl.sum(shares, axis=1) * uniforms.to(tl.float64)
        chosen = tl.sum((tl.cumsum(shares, axis=1) <= thresholds[:, None]).to(tl.int32), axis=1)
    chosen = tl.minimum(chosen, count - 1)
    log_probs = tl.sum(tl.where(classes == chosen[:, None], shifted, 0.0), axis=1)
    return chosen, log_probs - tl.log(tl.sum(tl.exp(shifted), axis=1))


@triton.jit(do_not_specialize=["steps", "taken", "batch"], do_not_specialize_on_alignment=["uniforms"])
def generate(
    uniforms: tl.tensor,  # (batch, steps) float32
    symbols: tl.tensor,  # (batch, steps) int64, written
    log_probs: tl.tensor,  # (batch, steps) float32, written
    latest: tl.tensor,  # (batch,) int64, read and written
    ring: tl.tensor,  # (groups, ring_length, ROWS, R), read and written
    starts: tl.tensor,  # (LAYERS,) int64: where each layer's ring begins
    lengths: tl.tensor,  # (LAYERS,) int32
    dilations: tl.tensor,  # (LAYERS,) int32
    biases: tl.tensor,  # (batch, steps, LAYERS * 2 * half), of the conditioning
    bias_batch: tl.tensor,  # stride of a stream in them
    bias_step: tl.tensor,  # stride of a step, 0 if all are alike
    table: tl.tensor,  # (C, R) float32: the embedding of each symbol
    conv: tl.tensor,  # (LAYERS, TAPS, 2, R, H): the oldest tap first, filter and gate
    conv_bias: tl.tensor,  # (LAYERS, 2, H) float32
    residual: tl.tensor,  # (LAYERS, H, R)
    skip: tl.tensor,  # (LAYERS, H, S)
    skip_bias: tl.tensor,  # (S,) float32
    head: tl.tensor,  # (D / BLOCK, S, BLOCK)
    head_bias: tl.tensor,  # (D,) float32
    output: tl.tensor,  # (D, C)
    output_bias: tl.tensor,  # (C,) float32, -inf where there is no class
    ring_length: tl.tensor,
    steps: tl.tensor,
    taken: tl.tensor,  # steps since the rings were filled
    batch: tl.tensor,
    temperature: tl.tensor,
    greedy: tl.constexpr,
    conditioned: tl.constexpr,
    half: tl.constexpr,
    classes: tl.constexpr,
    LAYERS: tl.constexpr,  # noqa: N803
    TAPS: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    R: tl.constexpr,  # noqa: N803
    H: tl.constexpr,  # noqa: N803
    S: tl.constexpr,  # noqa: N803
    D: tl.constexpr,  # noqa: N803
    C: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Run `steps` steps of the streams of one program."""
    group = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, ROWS)
    streams = group * ROWS + lanes
    real = streams < batch
    streams = tl.minimum(streams, batch - 1)
    columns = tl.arange(0, H)
    tile = lanes[:, None] * R + tl.arange(0, R)[None, :]
    ring += group * ring_length * ROWS * R
    newest = tl.load(latest + streams).to(tl.int32)
    for step in range(steps):
        now = taken + step
        x = tl.load(table + newest[:, None] * R + tl.arange(0, R)[None, :])
        skipped = tl.zeros((ROWS, S), tl.float32) + tl.load(skip_bias + tl.arange(0, S))[None, :]
        for layer in range(LAYERS):
            own, length = ring + tl.load(starts + layer) * (ROWS * R), tl.load(lengths + layer)
            dilation = tl.load(dilations + layer)
            weights, at = conv + layer * (TAPS * 2 * R * H), conv_bias + layer * (2 * H)
            filters = tl.zeros((ROWS, H), tl.float32) + tl.load(at + columns)[None, :]
            gates = tl.zeros((ROWS, H), tl.float32) + tl.load(at + H + columns)[None, :]
            if conditioned:
                given = biases + streams[:, None] * bias_batch + step * bias_step.to(tl.int64) + columns[None, :]
                given += layer * (2 * half)
                filters += tl.load(given, mask=(columns < half)[None, :], other=0.0)
                gates += tl.load(given + half, mask=(columns < half)[None, :], other=0.0)
            for tap in tl.static_range(TAPS - 1):
                past = tl.load(own + (now + 1 + tap * dilation) % length * (ROWS * R) + tile)
                filters = tl.dot(past, load_matrix(weights, R, H), filters, input_precision="ieee")
                gates = tl.dot(past, load_matrix(weights + R * H, R, H), gates, input_precision="ieee")
                weights += 2 * R * H
            current = x.to(ring.dtype.element_ty)
            tl.store(own + now % length * (ROWS * R) + tile, current)
            filters = tl.dot(current, load_matrix(weights, R, H), filters, input_precision="ieee")
            gates = tl.dot(current, load_matrix(weights + R * H, R, H), gates, input_precision="ieee")
            gated = ((2 * tl.sigmoid(2 * filters) - 1) * tl.sigmoid(gates)).to(ring.dtype.element_ty)
            x = tl.dot(gated, load_matrix(residual + layer * (H * R), H, R), x, input_precision="ieee")
            skipped = tl.dot(gated, load_matrix(skip + layer * (H * S), H, S), skipped, input_precision="ieee")
        taken_in = tl.maximum(skipped, 0.0).to(ring.dtype.element_ty)
        logits = tl.zeros((ROWS, C), tl.float32) + tl.load(output_bias + tl.arange(0, C))[None, :]
        for block in range(D // BLOCK):
            hidden = tl.zeros((ROWS, BLOCK), tl.float32)
            hidden += tl.load(head_bias + block * BLOCK + tl.arange(0, BLOCK))[None, :]
            hidden = tl.dot(taken_in, load_matrix(head + block * (S * BLOCK), S, BLOCK), hidden, input_precision="ieee")
            hidden = tl.maximum(hidden, 0.0).to(ring.dtype.element_ty)
            logits = tl.dot(hidden, load_matrix(output + block * (BLOCK * C), BLOCK, C), logits, input_precision="ieee")
        uniform = tl.load(uniforms + streams * steps + step)
        newest, log_prob = choose(logits, uniform, temperature, greedy, classes)
        tl.store(symbols + streams * steps + step, newest.to(tl.int64), mask=real)
        tl.store(log_probs + streams * steps + step, log_prob, mask=real)
        tl.debug_barrier()  # the next step reads what other threads have written to the rings
    tl.store(latest + streams, newest.to(tl.int64), mask=real)
