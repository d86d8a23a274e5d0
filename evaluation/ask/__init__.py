"""A run: planned, checked before row 1, asked, evaluated, written row by row."""
