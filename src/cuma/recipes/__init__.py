"""Recipes: YAML files of experiments, their schema, and the packaged ones beside this file."""
