"""The commands of ``python -m setup``: options, output, next command."""
