"""The deletion of what costs, in stages, proved by reading."""
