"""Model files: fetched, read, merged with an adapter, written in the forms that others load."""
