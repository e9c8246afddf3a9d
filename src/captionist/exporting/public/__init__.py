"""Public checkpoints of others, made bundles that run without torch."""
