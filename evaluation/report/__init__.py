"""The report of an evaluation: one HTML file, Markdown for a pull request, every row as CSV."""
