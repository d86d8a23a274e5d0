"""The overlap of an answer with the ground truth's text: F1, ROUGE, BLEU, chrF.

F1 and ROUGE are those of promptflow-evals where it is installed, else of azure-ai-evaluation, which
succeeds it and gives equal values.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from .inputs import InputError

# Both compute ROUGE-L in a table of words times words, made of Python lists: below this product of
# lengths in characters it takes less than a second.
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


@cache
def _evaluators() -> dict[str, Metric]:
    """F1 and ROUGE by name; the first call imports them, which takes seconds."""
    folder = _folder_of_promptflow_evals()
    if folder:
        f1s, rouges = (_load(folder / f"_{name}" / f"_{name}.py") for name in ("f1_score", "rouge"))
        said, rouge_score = "answer", "rouge_f1_score"
    else:
        try:
            f1s = rouges = importlib.import_module("azure.ai.evaluation")
        except ModuleNotFoundError:
            raise InputError(
                "F1 and ROUGE need promptflow-evals or azure-ai-evaluation, and neither is "
                "installed. Fix: pip install azure-ai-evaluation"
            ) from None
        said, rouge_score = "response", "rouge"
    rouge = {
        name: rouges.RougeScoreEvaluator(rouge_type=getattr(rouges.RougeType, name.upper()))
        for name in ("rouge_1", "rouge_2", "rouge_l")
    }
    metrics = {name: _metric(kind, said, rouge_score) for name, kind in rouge.items()}
    return {"f1": _metric(f1s.F1ScoreEvaluator(), said, "f1_score"), **metrics}


def _metric(evaluator: Any, said: str, score: str) -> Metric:
    def metric(answer: str, ground_truth: str) -> float:
        return float(evaluator(**{said: answer, "ground_truth": ground_truth})[score])

    return metric


def _folder_of_promptflow_evals() -> Path | None:
    try:
        package = importlib.util.find_spec("promptflow.evals")
    except ModuleNotFoundError:  # nothing of promptflow is installed
        package = None
    folders = package.submodule_search_locations if package else None
    return Path(folders[0]) / "evaluators" if folders else None


def _load(file: Path) -> Any:
    # By its file: the package around it imports evaluators that make NLTK download data.
    spec = importlib.util.spec_from_file_location(f"answer_metrics{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"promptflow-evals has no {file.stem}. Fix: promptflow-evals==0.3.5")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _overlap(name: str, answer: str, ground_truth: str) -> float:
    # The space: promptflow-evals refuses a text that is exactly "None".
    return _evaluators()[name](f"{answer} ", f"{ground_truth} ")


def _rouge_l(answer: str, ground_truth: str) -> float:
    if len(answer) * len(ground_truth) <= _TABLE_CHARACTERS:
        return _overlap("rouge_l", answer, ground_truth)
    # The evaluator's value without its table, from the words that it sees.
    words, truth = (re.findall("[a-z0-9]+", text.lower()) for text in (answer, ground_truth))
    common = longest_common_subsequence(words, truth)
    if not common:
        return 0.0
    precision, recall = common / len(words), common / len(truth)
    return 2 * precision * recall / (precision + recall)


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


def _sacrebleu(kind: str, said: Any, truth: list[Any]) -> float:
    import sacrebleu

    # An exact answer has a BLEU of 100.00000000000004.
    return min(float(getattr(sacrebleu, kind)(said, truth).score), 100.0)


def corpus_metrics(answers: list[str], ground_truths: list[str]) -> dict[str, float]:
    """BLEU and chrF of all answers as one text, 0 to 100; empty without any.

    Not the means of the sentences' scores: sacrebleu counts over the whole corpus before dividing.
    """
    if not answers:
        return {}
    return {
        kind: _sacrebleu(kind, answers, [ground_truths]) for kind in ("corpus_bleu", "corpus_chrf")
    }


_METRICS: dict[str, Metric] = {
    **{name: partial(_overlap, name) for name in ("f1", "rouge_1", "rouge_2")},
    "rouge_l": _rouge_l,
    "bleu": lambda answer, truth: _sacrebleu("sentence_bleu", answer, [truth]),
    "chrf": lambda answer, truth: _sacrebleu("sentence_chrf", answer, [truth]),
}
