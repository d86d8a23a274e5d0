"""The judges of promptflow-evals, without promptflow around them."""
