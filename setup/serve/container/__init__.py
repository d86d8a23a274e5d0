"""The program in a GGUF deployment's container: llama.cpp behind the routes Azure ML probes."""
