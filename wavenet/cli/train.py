"""`wavenet train`: a dataset and a recipe to a model."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe (.toml).")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a key of the recipe, such as train.steps=100; repeatable. recipes/README.md lists the keys.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the run's checkpoint, if it has one.")
    ] = False,
) -> None:
    """Train a model from a recipe.

    Ctrl-C saves a checkpoint and stops; the same command with --resume continues as if nothing had happened.
    """
    from wavenet.cli.training import run

    run(recipe, set_ or [], resume)
