"""The image that serves a model with vLLM; only its start is ours."""
