"""Turns other people's public checkpoints into bundles that run without torch."""
