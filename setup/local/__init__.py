"""The local target: a small model served on this machine, no cloud needed."""
