"""The engines that run a flow; ``plain`` needs nothing of promptflow."""
