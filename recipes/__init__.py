"""Recipes, and the scripts that make what they start from; each script is a command: python -m recipes.NAME."""
