"""Know whether it is better: evaluation runs, their comparison, the report and the gate."""
