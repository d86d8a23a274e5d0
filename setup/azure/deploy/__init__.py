"""The version and the online endpoint that serves it, in two slots."""
