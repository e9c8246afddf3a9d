"""Checkpoints and a finished run for the tests of export."""

from tests.model.conftest import checkpoints as checkpoints
from tests.model.conftest import overfitted as overfitted
