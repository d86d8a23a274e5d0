"""A fine-tuned adapter in the forms that others load: GGUF, adapter GGUF, transformers folder."""
