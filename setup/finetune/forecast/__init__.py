"""The forecast of a run: its memory, its time, and the time left while it goes on."""
