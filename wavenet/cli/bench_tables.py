"""The tables of `wavenet bench`."""

from wavenet.benchmark import Limit, Row, TrainRow
from wavenet.engines import NativeEngine, WeightType


def engine_table(rows: list[Row], limits: dict[WeightType, Limit]) -> str:
    """A line for each case. One stream on one thread also shows its share of the limit, which is for that case."""
    base = rows[0].rate
    lines = [
        f"{'engine':12}{'weights':>10}{'threads':>9}{'batch':>7}{'samples/s':>12}{'x real time':>13}{'ratio':>8}  limit"
    ]
    for row in rows:
        case, limit = row.case, limits.get(row.case.weights)
        note = ""
        if limit is not None and case.engine == NativeEngine.name and case.threads == case.batch == 1:
            note = (
                f"  reading {limit.weight_bytes / 1e6:.2f} MB {limit.read:,.0f} ({row.rate / limit.read:.0%}), "
                f"products {limit.multiply_add:,.0f} ({row.rate / limit.multiply_add:.0%})"
            )
        lines.append(
            f"{case.engine:12}{case.weights:>10}{case.threads:9}{case.batch:7}{row.rate:12,.0f}"
            f"{row.real_time:13.2f}{row.rate / base:8.1f}{note}"
        )
    return "\n".join(lines)


def curve_table(curves: dict[str, dict[str, list[tuple[int, float]]]]) -> str:
    """The time per sample against the model's size: a line for each engine and quantity."""
    lines = ["microseconds a sample, one stream, one thread"]
    for engine, by_name in curves.items():
        for name, points in by_name.items():
            cells = "  ".join(f"{place:,}: {value:,.1f}" for place, value in points)
            lines.append(f"{engine:12}{name:18}{cells}")
    return "\n".join(lines)


def training_table(rows: list[TrainRow]) -> str:
    """A line for each case; `ratio` is the rate over that of the first."""
    title = (
        f"{'network':9}{'precision':>10}{'':14}{'batch':>11}{'samples/s':>11}{'ratio':>7}{'memory':>10}  of products"
    )
    lines = [title]
    for row in rows:
        case = row.case
        how = "compiled" if case.compiled else "checkpointed" if case.recompute else "eager"
        how = "alone" if case.network == "products" else how
        network = case.network + ("" if case.keeps else "*")
        lines.append(
            f"{network:9}{case.precision:>10}{how:>14}{f'{case.batch} x {case.window:,}':>11}{row.rate:11,.0f}"
            f"{row.rate / rows[0].rate:7.2f}{row.memory / 1e6:7,.0f} MB{row.share:8.0%}"
        )
    return "\n".join(lines)
