"""What makes bundles of models."""
