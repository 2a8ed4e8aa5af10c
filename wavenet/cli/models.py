"""`wavenet models`: the models that come with the package."""

import json
import textwrap
from dataclasses import asdict

from wavenet.cli.options import AsJson
from wavenet.shipped import ShippedModel, shipped_models


def models(as_json: AsJson = False) -> None:
    """List the models that come with the package.

    Commands take these names where they take a MODEL, and so does train.init_from in a recipe. A file of that name in
    the current folder comes first, and so does a run's folder.
    """
    found = shipped_models().values()
    if as_json:
        derived = [{"path": str(model.path), "size": model.size, "sample_rate": model.sample_rate} for model in found]
        print(json.dumps([asdict(model) | more for model, more in zip(found, derived, strict=True)], indent=2))
    else:
        print("\n\n".join(map(_card, found)))


def _card(model: ShippedModel) -> str:
    """What is known of a model, in lines that fit a terminal; only a command may be longer, to be pasted whole."""
    file = f"{model.sample_rate:,} Hz, {model.size / 1e6:.1f} MB"
    rows = {"file": file, "figures": model.figures, "data": model.data, "licence": model.licence, "page": model.page}
    lines = [textwrap.fill(f"  {name:9}{fact}", 79, subsequent_indent=" " * 11) for name, fact in rows.items()]
    title = textwrap.fill(f"{model.name}: {model.does}", 79, subsequent_indent="  ")
    return "\n".join([title, *lines, f"  {'try':9}{model.example}"])
