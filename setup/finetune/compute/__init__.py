"""The arithmetic of a step: LoRA, loss, schedule, precision."""
