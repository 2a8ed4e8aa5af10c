"""Training: a recipe, the trainer, its loop, checkpoints, several processes, and who watches."""

from wavenet.training.checkpoint import load_checkpoint, save_checkpoint
from wavenet.training.distributed import Processes, joined
from wavenet.training.listening import Listener
from wavenet.training.loop import train
from wavenet.training.observer import Observer, Silence
from wavenet.training.optimizer import Muon, orthogonalise
from wavenet.training.recipe import Recipe, TrainConfig, load_recipe, recipe_of_run
from wavenet.training.splits import held_out_sources, training_sources
from wavenet.training.tensorboard import TensorBoardWriter
from wavenet.training.trainer import Trainer

__all__ = [
    "Listener",
    "Muon",
    "Observer",
    "Processes",
    "Recipe",
    "Silence",
    "TensorBoardWriter",
    "TrainConfig",
    "Trainer",
    "held_out_sources",
    "joined",
    "load_checkpoint",
    "load_recipe",
    "orthogonalise",
    "recipe_of_run",
    "save_checkpoint",
    "train",
    "training_sources",
]
