"""Dated facts about Azure: what is retired, what it costs, how many cores it takes."""
