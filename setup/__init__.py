"""Everything the flows need before they can run: data, model, endpoint, connection."""
