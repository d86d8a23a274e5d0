"""The tools that every room of ``setup`` may use: console, errors, paths, files, steps."""
