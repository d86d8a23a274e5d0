"""Two runs against each other: pairs, intervals, tests, and what a judge prefers."""
