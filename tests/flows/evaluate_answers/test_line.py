"""The scores of a line: those of the libraries, null where they do not apply."""

from __future__ import annotations

import importlib
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from evaluation.metrics import METRICS
from flows.evaluate_answers.answer_metrics import InputError, score_answer, text
from flows.evaluate_answers.answer_metrics.text import longest_common_subsequence
from tests.flows.evaluate_answers.conftest import Row

TEXT = ("f1", "rouge_1", "rouge_2", "rouge_l", "bleu", "chrf")
TRUTH = "The Lynx trail camera runs for 9 months on one charge."


def of_the_libraries(answer: str, truth: str) -> dict[str, float]:
    """Straight from promptflow-evals and sacrebleu, whose 100 is a little more to a computer."""
    # What makes NLTK download data when it is imported; F1 and ROUGE have no use for it.
    sys.modules.setdefault("nltk.tokenize.nist", types.SimpleNamespace(NISTTokenizer=None))  # type: ignore[arg-type]
    evals: Any = importlib.import_module("promptflow.evals.evaluators")
    both = {"answer": answer, "ground_truth": truth}
    rouge = {
        name: evals.RougeScoreEvaluator(rouge_type=kind)(**both)["rouge_f1_score"]
        for name, kind in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"))
    }
    return {
        "f1": evals.F1ScoreEvaluator()(**both)["f1_score"] if answer else 0.0,
        **rouge,
        "bleu": min(sacrebleu.sentence_bleu(answer, [truth]).score, 100.0),
        "chrf": min(sacrebleu.sentence_chrf(answer, [truth]).score, 100.0),
    }


def test_text_metrics_are_those_of_the_libraries(rows: list[Row]) -> None:
    seen = set()
    for row in rows:
        scores = score_answer(**row)
        if row["ground_truth"]:
            expected = of_the_libraries(row["answer"], row["ground_truth"])
            assert {name: scores[name] for name in TEXT} == expected
            seen.add(round(expected["f1"], 3))
        else:
            assert {scores[name] for name in TEXT} == {None}
    assert len(seen) > 6, "too few different scores for this to prove anything"


def test_every_line_has_the_same_metrics_by_their_names(rows: list[Row]) -> None:
    names = {tuple(score_answer(**row)) for row in rows}
    assert len(names) == 1
    (metrics,) = names
    assert set(metrics) <= set(METRICS)
    assert len(metrics) == 13


@pytest.mark.parametrize("absent", ["", "  \n", None, "None"])
def test_without_a_ground_truth(absent: str | None) -> None:
    scores = score_answer("Nine months.", absent)
    assert {scores[name] for name in TEXT} == {None}
    assert (scores["declined"], scores["over_declined"], scores["answer_words"]) == (None, None, 2)


@pytest.mark.parametrize(
    ("truth", "blind"),
    [
        ("IP58", {"rouge_2"}),
        ("9 个月", {"rouge_2"}),
        ("九个月", {"rouge_1", "rouge_2", "rouge_l"}),
        ("כן, תשעה", {"rouge_1", "rouge_2", "rouge_l"}),
        ("A", {"f1", "rouge_2"}),
        ("💡", {"rouge_1", "rouge_2", "rouge_l"}),
    ],
)
def test_a_metric_that_cannot_see_the_ground_truth_is_null(truth: str, blind: set[str]) -> None:
    for answer, sees in ((truth, True), ("something else", False), ("", False)):
        scores = score_answer(answer, truth)
        assert {name for name in TEXT if scores[name] is None} == blind
        assert all(scores[name] > 0 for name in set(TEXT) - blind if sees)  # type: ignore[operator]


@pytest.mark.parametrize("answer", ["", " \n\t"])
def test_an_empty_answer_scores_nothing(answer: str) -> None:
    scores = score_answer(answer, TRUTH, ["9 months"], must_decline=False)
    assert [scores[name] for name in TEXT] == [0.0] * 6
    assert (scores["fact_recall"], scores["over_declined"], scores["answer_words"]) == (0, 0, 0)


@pytest.mark.parametrize("text", [TRUTH, "It runs for 9 months, doesn't it? Yes: 9.", "九个月了吗"])
def test_an_exact_answer_has_the_highest_score_and_no_more(text: str) -> None:
    scores = score_answer(text, text)
    tops = {"bleu": 100.0, "chrf": 100.0}
    assert all(scores[name] in (tops.get(name, 1.0), None) for name in TEXT)


@pytest.mark.parametrize("said", [None, ""])
def test_declining_is_scored_only_where_a_row_says_whether_it_is_due(said: Any) -> None:
    scores = score_answer("I'm sorry, but I can't help with that.", TRUTH, must_decline=said)
    assert (scores["declined"], scores["over_declined"]) == (None, None)


def test_an_answer_that_is_the_word_none_is_text() -> None:
    assert score_answer("None", "None of them.")["f1"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("answer", "fact", "held"),
    [
        ("It runs for 9 months.", "9 months", True),
        ("It runs for 9\u00a0Months", "9 months", True),
        ("It runs for 19 months", "9 months", False),
        ("It runs for 1.9 months", "9 months", False),
        ("It runs for 1,9 months", "9 months", False),
        ("It costs $3.50.", "$3", False),
        ("It costs $3.", "$3", True),
        ("(IP58)", "IP58", True),
        ("XIP58, IP581", "IP58", False),
        ("<b>IP58</b>", "IP58", True),
        ("A cafe\u0301", "caf\u00e9", True),
        ("充满电可用9个月。", "9个月", True),
        ("充满电可用19个月。", "9个月", False),
        ("אחריות של 2 שנים", "2 שנים", True),
        ("mail support@orrinfell.example.", "support@orrinfell.example", True),
        ("2 años 💡", "2 AÑOS", True),
        ("a.b", "a*b", False),
    ],
)
def test_facts_are_whole_words(answer: str, fact: str, held: bool) -> None:
    assert score_answer(answer, "", [fact])["fact_recall"] == held


def test_fact_recall_is_a_share_and_null_without_facts() -> None:
    facts = ["9 months", "one charge", "2 years"]
    assert score_answer("9 months on one charge", "", facts)["fact_recall"] == 2 / 3
    assert score_answer("9 months", "", [])["fact_recall"] is None


def test_usage_is_passed_on_null_and_all() -> None:
    usage = {"prompt_tokens": 31, "completion_tokens": None, "seconds": 2, "other": "x"}
    scores = score_answer("Yes.", usage=usage)
    assert scores["prompt_tokens"] == 31
    assert scores["completion_tokens"] is None
    assert scores["latency_seconds"] == 2.0


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"answer": None}, "answer is null, not text"),
        ({"answer": 9}, "answer is of type int, not text"),
        ({"ground_truth": ["x"]}, "ground_truth is of type list"),
        ({"facts": "9 months"}, "facts is of type str, not a list"),
        ({"facts": ["9 months", 9]}, "facts holds 9."),
        ({"facts": [" "]}, "facts holds ' '"),
        ({"must_decline": "yes"}, "must_decline is of type str"),
        ({"usage": [1]}, "usage is of type list, not an object"),
        ({"usage": {"seconds": "1"}}, "usage.seconds is '1'"),
        ({"usage": {"seconds": float("nan")}}, "usage.seconds is nan"),
        ({"usage": {"prompt_tokens": -1}}, "usage.prompt_tokens is -1"),
        ({"usage": {"prompt_tokens": True}}, "usage.prompt_tokens is True"),
    ],
)
def test_what_is_not_of_its_type_is_one_line_with_a_fix(inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        score_answer(**{"answer": "Yes."} | inputs)
    assert says in str(caught.value)
    assert "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hostile_text_is_scored() -> None:
    hostile = "<script>alert(1)</script> \u202eabc\u202c \x00 \ud800 &lt;b&gt; 👩‍👩‍👧 %s {0} \\1"
    assert score_answer(hostile, hostile, [hostile])["fact_recall"] == 1.0
    assert score_answer(hostile, hostile)["f1"] == 1.0


def test_the_longest_common_subsequence_is_that_of_the_evaluator() -> None:
    chance = random.Random(7)  # noqa: S311 - the same every time
    scorer = RougeScorer(["rougeL"])
    for _ in range(200):
        first, second = (chance.choices("abcd", k=chance.randint(1, 40)) for _ in range(2))
        found = longest_common_subsequence(first, second)
        recall = scorer.score(" ".join(first), " ".join(second))["rougeL"].recall
        assert found == round(recall * len(first))


def test_a_megabyte_is_scored() -> None:
    """The evaluator's own ROUGE-L would fill a table of 361 million cells."""
    words = [f"w{number % 5003}" for number in range(190_000)]
    answer, truth = " ".join(words), " ".join(words[::100])
    assert len(answer) > 1_000_000
    scores = score_answer(answer, truth, ["w5002 w0", "w0 w5002"])
    assert scores["rouge_l"] == pytest.approx(2 * 1_900 / (190_000 + 1_900))
    assert scores["f1"] == scores["rouge_1"] == pytest.approx(scores["rouge_l"])
    assert scores["fact_recall"] == 0.5
    assert scores["answer_words"] == 190_000


@pytest.fixture
def evals() -> Any:
    """The two evaluators of promptflow-evals, by their files, as the flow loads them."""
    folder = text._folder_of_promptflow_evals()
    assert folder
    f1s, rouges = (
        text._load(folder / f"_{name}" / f"_{name}.py") for name in ("f1_score", "rouge")
    )
    return types.SimpleNamespace(**{**vars(f1s), **vars(rouges)})


@pytest.fixture
def without_promptflow_evals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "promptflow.evals", None)
    text._evaluators.cache_clear()
    yield
    text._evaluators.cache_clear()


def test_azure_ai_evaluation_takes_the_place_of_promptflow_evals(
    rows: list[Row], evals: Any, without_promptflow_evals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its names for the same: ``response`` for an answer, ``rouge`` for the F-measure."""
    ours: Any = types.ModuleType("azure.ai.evaluation")

    class F1:
        def __call__(self, *, response: str, ground_truth: str) -> dict[str, Any]:
            both = {"answer": response, "ground_truth": ground_truth}
            return {"f1_score": evals.F1ScoreEvaluator()(**both)["f1_score"], "f1_score_passed": 1}

    class Rouge:
        def __init__(self, rouge_type: Any) -> None:
            self.kind = rouge_type

        def __call__(self, *, response: str, ground_truth: str) -> dict[str, Any]:
            both = {"answer": response, "ground_truth": ground_truth}
            found = evals.RougeScoreEvaluator(rouge_type=self.kind)(**both)
            return {"rouge": found["rouge_f1_score"], "rouge_properties": {}}

    ours.F1ScoreEvaluator, ours.RougeScoreEvaluator, ours.RougeType = F1, Rouge, evals.RougeType
    monkeypatch.setitem(sys.modules, "azure.ai.evaluation", ours)
    for row in rows:
        scores = score_answer(**row)
        if row["ground_truth"]:
            expected = of_the_libraries(row["answer"], row["ground_truth"])
            assert {name: scores[name] for name in TEXT} == expected


def test_without_either_package_the_line_says_what_to_install(
    without_promptflow_evals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "azure.ai.evaluation", None)
    with pytest.raises(InputError, match="Fix: pip install azure-ai-evaluation"):
        score_answer("Yes.", "Yes.")
