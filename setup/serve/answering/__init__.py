"""Answering: an answer made of the engine's words, and its way to the client."""
