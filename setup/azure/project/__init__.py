"""The Foundry project: its connections and the flows in it."""
