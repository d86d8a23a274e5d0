"""The files of a LoRA adapter in peft's format, by the names peft gives them."""

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
