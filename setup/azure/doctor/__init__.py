"""Everything that would fail in Azure, found by reading."""
