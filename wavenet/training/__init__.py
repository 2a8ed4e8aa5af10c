"""Training: the trainer and its settings, recipes, run folders with checkpoints, several processes, and observers."""

from wavenet.training.begin import Selection, from_recipe, held_out_clips, train_recipe, training_clips
from wavenet.training.checkpoint import load_checkpoint
from wavenet.training.config import TrainConfig
from wavenet.training.distributed import Processes, joined
from wavenet.training.listening import Listener
from wavenet.training.loop import train
from wavenet.training.observer import Observer
from wavenet.training.recipe import Recipe, load_recipe, recipe_of_run
from wavenet.training.tensorboard import TensorBoardWriter
from wavenet.training.trainer import Trainer

__all__ = [
    "Listener",
    "Observer",
    "Processes",
    "Recipe",
    "Selection",
    "TensorBoardWriter",
    "TrainConfig",
    "Trainer",
    "from_recipe",
    "held_out_clips",
    "joined",
    "load_checkpoint",
    "load_recipe",
    "recipe_of_run",
    "train",
    "train_recipe",
    "training_clips",
]
