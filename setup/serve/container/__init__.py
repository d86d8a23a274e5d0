"""What runs in the container of a GGUF deployment: llama.cpp behind the routes Azure ML probes."""
