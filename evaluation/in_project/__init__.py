"""A run of the flows in the Foundry project."""
