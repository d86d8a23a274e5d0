"""The metrics of what is right in an answer, decided without a model and without promptflow."""

from .inputs import InputError
from .refusals import is_refusal
from .scores import score_answer, summarize_scores

__all__ = ["InputError", "is_refusal", "score_answer", "summarize_scores"]
