"""A look at prepared data before it is trained on: what is in it, and what the model will see."""
