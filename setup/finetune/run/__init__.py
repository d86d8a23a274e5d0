"""A fine-tuning run: begun, watched, resumed, finished."""
