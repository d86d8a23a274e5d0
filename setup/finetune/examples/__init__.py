"""From conversations to token ids with the trained ones marked."""
