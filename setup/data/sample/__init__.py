"""The committed sample: conversations about an invented company, written by a seeded generator."""
