"""Sources of rows: a file, a folder, a data set of the hub."""
