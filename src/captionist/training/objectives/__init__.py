"""Objectives: what a stage trains a model for. Each is a file; `build_objective` makes a stage's."""

from captionist.training.objectives.build import build_objective
from captionist.training.objectives.examples import Batch, Examples, look
from captionist.training.objectives.objective import Objective

__all__ = ["Batch", "Examples", "Objective", "build_objective", "look"]
