"""The overlap of an answer with the ground truth's text: F1, ROUGE, BLEU, chrF."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .evaluators import evaluators

# promptflow-evals computes ROUGE-L in a table of words times words, made of Python lists: below
# this product of lengths in characters it takes less than a second.
_TABLE_CHARACTERS = 10_000_000

Metric = Callable[[str, str], float]


def text_metrics(answer: str, ground_truth: str) -> dict[str, float | None]:
    """F1 and ROUGE (0 to 1), sentence BLEU and chrF (0 to 100) of ``answer``.

    Every one is None where the ground truth is empty, and where it has nothing that the metric can
    see, so that no answer at all could score: one word has no word pair for ROUGE-2, and ROUGE
    reads nothing but the letters a to z and digits.
    """
    return {name: _applied(metric, answer, ground_truth) for name, metric in _METRICS.items()}


def _applied(metric: Metric, answer: str, ground_truth: str) -> float | None:
    if not ground_truth:
        return None
    score = metric(answer, ground_truth) if answer.strip() else 0.0
    return score if score > 0 or metric(ground_truth, ground_truth) > 0 else None


def _f1(answer: str, ground_truth: str) -> float:
    # The space: the evaluator refuses a text that is exactly "None".
    scored = evaluators().f1(answer=f"{answer} ", ground_truth=f"{ground_truth} ")
    return float(scored["f1_score"])


def _rouge_1(answer: str, ground_truth: str) -> float:
    return _rouge(evaluators().rouge_1(answer=answer, ground_truth=ground_truth))


def _rouge_2(answer: str, ground_truth: str) -> float:
    return _rouge(evaluators().rouge_2(answer=answer, ground_truth=ground_truth))


def _rouge_l(answer: str, ground_truth: str) -> float:
    if len(answer) * len(ground_truth) > _TABLE_CHARACTERS:
        return _rouge_l_of_long(answer, ground_truth)
    return _rouge(evaluators().rouge_l(answer=answer, ground_truth=ground_truth))


def _rouge(scored: dict[str, float]) -> float:
    return float(scored["rouge_f1_score"])


def _rouge_l_of_long(answer: str, ground_truth: str) -> float:
    """The evaluator's value without its table."""
    from rouge_score import scoring, tokenize  # noqa: PLC0415 - imports nltk

    answer_tokens = tokenize.tokenize(answer, None)
    truth_tokens = tokenize.tokenize(ground_truth, None)
    if not answer_tokens or not truth_tokens:
        return 0.0
    common = longest_common_subsequence(answer_tokens, truth_tokens)
    return float(scoring.fmeasure(common / len(answer_tokens), common / len(truth_tokens)))


def longest_common_subsequence(first: list[str], second: list[str]) -> int:
    """Its length, bit-parallel: a word of the longer list costs a few operations on one integer.

    Source: H. Hyyrö, "Bit-Parallel LCS-length Computation Revisited", AWOCA 2004.
    """
    shorter, longer = sorted((first, second), key=len)
    places: defaultdict[str, int] = defaultdict(int)
    for place, word in enumerate(shorter):
        places[word] |= 1 << place
    full = unmatched = (1 << len(shorter)) - 1
    for word in longer:
        if matches := unmatched & places.get(word, 0):
            unmatched = ((unmatched + matches) | (unmatched - matches)) & full
    return len(shorter) - bin(unmatched).count("1")


def _bleu(answer: str, ground_truth: str) -> float:
    return _of_hundred(_sacrebleu().sentence_bleu(answer, [ground_truth]).score)


def _chrf(answer: str, ground_truth: str) -> float:
    return _of_hundred(_sacrebleu().sentence_chrf(answer, [ground_truth]).score)


def _of_hundred(score: float) -> float:
    """``score`` without what rounding adds: an exact answer has a BLEU of 100.00000000000004."""
    return min(float(score), 100.0)


def corpus_metrics(answers: list[str], ground_truths: list[str]) -> dict[str, float]:
    """BLEU and chrF of all answers as one text, 0 to 100; empty without any.

    Not the means of the sentences' scores: sacrebleu counts over the whole corpus before dividing.
    """
    if not answers:
        return {}
    return {
        "corpus_bleu": _of_hundred(_sacrebleu().corpus_bleu(answers, [ground_truths]).score),
        "corpus_chrf": _of_hundred(_sacrebleu().corpus_chrf(answers, [ground_truths]).score),
    }


def _sacrebleu() -> Any:
    import sacrebleu  # noqa: PLC0415 - a second of import, only for lines with a ground truth

    return sacrebleu


_METRICS: dict[str, Metric] = {
    "f1": _f1,
    "rouge_1": _rouge_1,
    "rouge_2": _rouge_2,
    "rouge_l": _rouge_l,
    "bleu": _bleu,
    "chrf": _chrf,
}
