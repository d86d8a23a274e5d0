"""A model that would be served another prompt than is trained is refused before it is trained."""

from __future__ import annotations
