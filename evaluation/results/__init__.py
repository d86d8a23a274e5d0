"""Run folders: found, read, resumed."""
