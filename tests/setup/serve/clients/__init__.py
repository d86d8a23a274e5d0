"""Clients that people have, each at the version of its lock and in an environment of its own."""
