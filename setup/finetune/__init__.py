"""Fine-tuning: LoRA on the answers of conversations, for a CPU, a GPU or several."""
