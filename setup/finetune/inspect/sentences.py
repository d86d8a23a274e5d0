"""The figures of prepared data in words, for the terminal and the page alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from setup.data.personal import count_kind
from setup.finetune.inspect.languages import BY, UNSURE
from setup.finetune.inspect.survey import Place, Survey
from setup.finetune.inspect.tokens import Bin, Rendering, Tokens, histogram

_MOST = 5  # reasons, languages, findings
_PAIRS = 3


class Chart(NamedTuple):
    """A histogram and what it counts."""

    title: str
    bins: list[Bin]


class Part(NamedTuple):
    """A subject: its name, sentences about it, examples to read."""

    name: str
    lines: list[str]
    examples: list[str]


def share(part: int, whole: int) -> str:
    """``part`` as per cent, of which a little is never none, nor nearly all all."""
    if part in (0, whole) or not whole:
        return "100 %" if part and part == whole else "0 %"
    percent = 100 * part / whole
    shown = f"{percent:.0f}" if 10 <= percent <= 99 else f"{percent:.1f}"
    return f"{min(max(float(shown), 0.1), 99.9):g} %"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def survey_parts(made: Survey) -> list[Part]:
    """The contents of the data, subject by subject."""
    return [
        _source(made),
        _conversations(made),
        _languages(made),
        _repetitions(made),
        _leaks(made),
        _personal(made),
    ]


def _source(made: Survey) -> Part:
    rows = made.rows
    lines = [f"{made.source}, {made.kind}"] if made.source != made.kind else [made.source]
    if "read" in rows:
        lines.append(
            f"{count(rows['read'], 'row')} read, {rows['kept']:,} kept, "
            f"{rows['rejected']:,} rejected"
        )
    lines.append(f"{rows['train']:,} in the train split, {rows['test']:,} in the test split")
    reasons = made.rejected.most_common(_MOST)
    more = len(made.rejected) - len(reasons)
    examples = [f"{number:,} rejected: {why}" for why, number in reasons]
    examples += [f"and {count(more, 'more reason')}"] if more else []
    return Part("rows", lines, [*examples, *made.notes])


def _conversations(made: Survey) -> Part:
    total = sum(made.exchanges.values())
    few = Counter({n: rows for n, rows in made.exchanges.items() if n <= _MOST})
    said = [f"{count(n, 'exchange')} in {share(few[n], total)}" for n in sorted(few)]
    if longer := total - sum(few.values()):
        most = max(made.exchanges)
        said.append(f"more in {share(longer, total)} (at most {most:,})")
    lines = [", ".join(said)]
    system = count(made.with_system, "row") if made.with_system else "no row"
    lines.append(f"{system} with a system message")
    if made.with_tools:
        lines.append(f"{count(made.with_tools, 'row')} with tools")
    if made.copies:
        copies = "copies" if made.copies > 1 else "a copy"
        lines.append(f"{count(made.copies, 'row')} of them {copies}, by the weight of a source")
    if made.weight_0:
        lines.append(f"{count(made.weight_0, 'answer')} of weight 0: read, and not learnt")
    return Part("turns", lines, [])


def _languages(made: Survey) -> Part:
    counts, looked_at = made.languages.counts, made.languages.looked_at
    named = [(name, rows) for name, rows in counts.most_common() if name != UNSURE]
    said = [f"{name} {share(rows, looked_at)}" for name, rows in named[:_MOST]]
    if rest := sum(rows for _, rows in named[_MOST:]):
        said.append(f"others {share(rest, looked_at)}")
    if counts[UNSURE]:
        said.append(f"too short to tell {share(counts[UNSURE], looked_at)}")
    everything = looked_at == made.rows["train"] + made.rows["test"] - made.copies
    of = "" if everything else f" from {looked_at:,} rows"
    return Part("languages", [f"{', '.join(said)} ({BY}{of})"], [])


def _where(counts: Counter[str]) -> str:
    """Where repetitions are, in words."""
    names = {"train": "in the train split", "test": "in the test split", "across": "across both"}
    return ", ".join(f"{counts[key]:,} {said}" for key, said in names.items() if counts[key])


def _repetitions(made: Survey) -> Part:
    lines = []
    for name, counts in (("repeat", made.duplicates), ("nearly repeat", made.near)):
        total = sum(counts.values())
        rows = count(total, "row") if total else "no row"
        verb = name.replace("repeat", "repeats") if total <= 1 else name
        where = f": {_where(counts)}" if total else ""
        lines.append(f"{rows} {verb} an earlier one{where}")
    return Part("repetitions", lines, list(_pairs(made.near_pairs)))


def _pairs(pairs: Iterable[tuple[Place, Place]]) -> Iterable[str]:
    for first, second in list(pairs)[:_PAIRS]:
        yield f"{first.row} {first.opening}\n{second.row} {second.opening}"


def _leaks(made: Survey) -> Part:
    if not made.leaks:
        return Part("leaks", ["no test row stands nearly word for word in the train split"], [])
    of = share(made.leaks, made.rows["test"])
    stand = "stand" if made.leaks > 1 else "stands"
    line = f"{count(made.leaks, 'test row')} ({of}) {stand} nearly word for word in the train split"
    why = "a right answer to such a question may have been learnt by heart"
    return Part("leaks", [line, why], list(_pairs(made.leak_pairs)))


def _personal(made: Survey) -> Part:
    if not made.personal_rows:
        line = "nothing that looks like it (names and addresses are not looked for)"
        return Part("personal data", [line], [])
    kinds = ", ".join(count_kind(number, kind) for kind, number in made.personal.most_common())
    line = f"{count(made.personal_rows, 'row')} with what looks like it: {kinds}"
    fix = "--set data.personal=mask writes the kind instead, reject leaves the row out"
    found = [
        f"{kind} {shown} in {row}, turn {turn}"
        for kind, row, turn, shown in made.personal_found[:_MOST]
    ]
    return Part("personal data", [line, fix], found)


def token_part(made: Tokens) -> Part:
    """The train split as the trainer reads it."""
    rows = len(made.conversations)
    lines = [
        f"{count(made.total, 'token')} in {count(rows, 'row')}, {share(made.trained, made.total)} "
        "of them trained: the answers with their stop tokens",
        f"counted as {made.model} reads them",
    ]
    limit = f"finetune.max_tokens={made.max_tokens}"
    if made.shortened:
        lose = "lose their" if made.shortened > 1 else "loses its"
        turns = f"{count(made.dropped_turns, 'turn')} in all"
        lines.append(f"{count(made.shortened, 'row')} {lose} oldest turns, {turns}: {limit}")
    else:
        lines.append(f"no row is cut: {limit}")
    if made.without_system:
        lose = "lose their" if made.without_system > 1 else "loses its"
        fix = "the template drops it; --set model.system_role=fold"
        lines.append(f"{count(made.without_system, 'row')} {lose} system message: {fix}")
    if made.prints_date:
        lines.append("the chat template prints the date")
    examples = [
        f"{number:,} left out: {why} (the first: {made.first[why]!r})"
        for why, number in made.left_out.most_common(_MOST)
    ]
    return Part("tokens", lines, examples)


def charts(made: Tokens) -> list[Chart]:
    """The histograms."""
    pairs = (
        ("tokens of a conversation", made.conversations),
        ("tokens of an answer, with its stop token", made.answers),
    )
    return [Chart(title, histogram(values)) for title, values in pairs if values]


def bin_label(bin_: Bin) -> str:
    """The values of a bin."""
    if bin_.high is None:
        return f"{bin_.low:,} and more"
    return f"{bin_.low:,}" if bin_.high == bin_.low + 1 else f"{bin_.low:,} to {bin_.high - 1:,}"


def heading(made: Rendering) -> str:
    """The line above a conversation."""
    if made.problem:
        return f"{made.row}: left out, for {made.problem}"
    dropped = f"; {count(made.dropped_turns, 'oldest turn')} dropped" if made.dropped_turns else ""
    return f"{made.row}: {count(made.tokens, 'token')}, {made.trained:,} of them trained{dropped}"
