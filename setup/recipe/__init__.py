"""Recipes: every value of a run, read from YAML and ``--set``, for both targets."""
