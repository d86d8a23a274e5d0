"""The splits as data assets of the workspace."""
