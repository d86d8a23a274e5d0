"""Near-duplicates: conversations of which one gives away the answer of the other.

Two are near-duplicates when their questions or their answers are the same almost word for word, and
the other side is mostly so. Words are those of the search for duplicates, in any order. Where the
numbers differ, both are instances of one template ("book order 17") and different. An answer of a
few words ("Yes.") proves nothing: there the questions must be the same almost word for word, too.

They are found among all pairs by MinHash: rows that share one of 24 keys of a few minima are
compared. Of each row at most 32 hashes of its questions' words and 32 of its answers' are kept, the
smallest, which is all of a short row and a fair draw of a long one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from .rows import Message, normalise, turn_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sketches = NDArray[np.uint32]
    Keys = NDArray[np.uint64]
    Numbers = NDArray[np.int64]
    Truths = NDArray[np.bool_]

_SIZE = 32
_BANDS = 12  # of either side
_NEIGHBOURS = 8  # rows of one key that each row is compared with
_BATCH = 1 << 14
_WAITING = 1 << 10  # rows before their sketches are packed: unpacked they take ten times as much
_NONE = 2**32 - 1  # fills up a sketch of fewer words
_EVEN = 2**32 - 4  # the bits of a hash: it is never _NONE, and odd only for a number
_SAME, _ALIKE = 0.9, 0.6  # shares of common words: almost word for word, mostly
_CONTAINED, _LEAST = 0.95, 0.4  # one text within a longer one, of which it is the larger part
_SHORT = 4  # words: an answer of fewer is a label
_LARGEST, _SHARE = 16, 0.1  # rows of a chain that is held together, and the share of all rows
# Scripts that put no space between words: two characters are a word there.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_RUN = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_DIGIT = re.compile(r"\d")
_KNOWN_WORDS = 1 << 16


def words_of(text: str) -> list[str]:
    """The words of ``text`` as the search for duplicates compares them."""
    words = normalise(text).split()
    return words if text.isascii() else list(chain.from_iterable(map(_parts, words)))


def _parts(word: str) -> Iterator[str]:
    for run in _RUN.findall(word):
        if len(run) > 1 and re.match(f"[{_UNSPACED}]", run):
            yield from map("".join, pairwise(run))
        else:
            yield run


class _Hashes(dict[str, int]):
    """Words and their hashes, equal in every process; those of words with digits are odd."""

    def __missing__(self, word: str) -> int:
        hashed = crc32(word.encode("utf-8", "surrogatepass")) & _EVEN | bool(_DIGIT.search(word))
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        self[word] = hashed
        return hashed


_HASHES = _Hashes()


class Sketch(NamedTuple):
    """The part of a conversation that is kept: hashes of its words, and one of its numbers."""

    asked: list[int]
    answered: list[int]
    numbers: int


def sketch(messages: Sequence[Message]) -> Sketch:
    """The sketch of a conversation; what a system message or a tool says belongs to no side."""
    asked, answered = (
        _hashes("\n".join(turn_text(turn) for turn in messages if turn["role"] == role))
        for role in ("user", "assistant")
    )
    numbers = [[hashed for hashed in side if hashed & 1] for side in (asked, answered)]
    return Sketch(asked[:_SIZE], answered[:_SIZE], crc32(repr(numbers).encode()))


def _hashes(text: str) -> list[int]:
    # A text of symbols alone has no words, and would be like every other one.
    return sorted({*map(_HASHES.__getitem__, words_of(text) or [text])})


class Pair(NamedTuple):
    """Two near-duplicates by their numbers, the earlier one first; ``strict``: both sides same."""

    first: int
    second: int
    strict: bool


class NearDuplicates:
    """The sketches of conversations, 260 bytes each, and the pairs among them."""

    def __init__(self) -> None:
        self.rows = 0
        self._waiting: list[Sketch] = []
        self._asked: list[Sketches] = []
        self._answered: list[Sketches] = []
        self._numbers: list[Sketches] = []

    def add(self, made: Sketch) -> None:
        """Take the next conversation."""
        self.rows += 1
        self._waiting.append(made)
        if len(self._waiting) >= _WAITING:
            self._pack()

    def _pack(self) -> None:
        import numpy as np

        asked, answered, numbers = zip(*self._waiting, strict=True)
        self._asked.append(_padded(asked))
        self._answered.append(_padded(answered))
        self._numbers.append(np.array(numbers, np.uint32))
        self._waiting.clear()

    def pairs(self) -> list[Pair]:
        """All pairs that are found, in order; of very many alike rows each with its neighbours."""
        import numpy as np

        if self._waiting:
            self._pack()
        if self.rows < 2:
            return []
        # One after the other, so that never both are there twice.
        self._asked = [np.concatenate(self._asked)]
        self._answered = [np.concatenate(self._answered)]
        sides = self._asked[0], self._answered[0]
        numbers = np.concatenate(self._numbers)
        found: set[int] = set()
        strict: set[int] = set()
        for keys, order in _band_keys(sides, numbers):
            for first, second in _candidates(keys, order):
                codes = first.astype(np.uint64) * np.uint64(self.rows) + second.astype(np.uint64)
                near, both = _compare(sides, numbers, first, second)
                found.update(codes[near].tolist())
                strict.update(codes[both].tolist())
        return [Pair(*divmod(code, self.rows), code in strict) for code in sorted(found)]


def _padded(sketches: Sequence[list[int]]) -> Sketches:
    import numpy as np

    lengths = np.fromiter(map(len, sketches), np.int64, len(sketches))
    padded = np.full((len(sketches), _SIZE), _NONE, np.uint32)
    filled = np.arange(_SIZE) < lengths[:, None]
    padded[filled] = np.fromiter(chain.from_iterable(sketches), np.uint32, int(lengths.sum()))
    return padded


def _minima(side: Sketches, seed: int) -> list[Sketches]:
    """The smallest hash of each row by twelve different hash functions."""
    import numpy as np

    factors = np.random.default_rng(seed).integers(1, 2**63, _BANDS, np.uint64) | np.uint64(1)
    minima = []
    for factor in factors:
        made = np.empty(len(side), np.uint32)
        for start in range(0, len(side), _BATCH):
            part = side[start : start + _BATCH]
            hashed = _mix(part.astype(np.uint64) * factor).astype(np.uint32)
            hashed[part == _NONE] = _NONE
            made[start : start + _BATCH] = hashed.min(axis=1)
        minima.append(made)
    return minima


def _mix(keys: Keys) -> Keys:
    import numpy as np

    keys = (keys ^ (keys >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return keys ^ (keys >> np.uint64(29))


def _band_keys(sides: tuple[Sketches, Sketches], numbers: Sketches) -> Iterator[tuple[Keys, Keys]]:
    """Keys of every row, and a second one by which rows of one key lie beside those alike.

    Of one side three minima and of the other one go into a key: near-duplicates, with nine tenths
    and six tenths of their words in common, share one of 24 keys with a chance of 99.9 %, those of
    which one lies within the other with 98 %.
    """
    import numpy as np

    asked, answered = (_minima(side, seed) for seed, side in enumerate(sides))
    for main, other in ((asked, answered), (answered, asked)):
        for band in range(_BANDS):
            key = numbers.astype(np.uint64)
            for offset in (0, 1, 5):
                key = _mix(key * np.uint64(31) + main[(band + offset) % _BANDS])
            order = _mix(main[(band + 3) % _BANDS].astype(np.uint64))
            order = _mix(order * np.uint64(31) + other[(band + 7) % _BANDS])
            yield _mix(key * np.uint64(31) + other[band]), order


def _candidates(keys: Keys, order: Keys) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs of rows of one key, in batches, the earlier row first."""
    import numpy as np

    places = np.lexsort((order, keys))
    ordered = keys[places]
    for distance in range(1, _NEIGHBOURS + 1):
        at = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        if not len(at):
            return
        for start in range(0, len(at), _BATCH):
            part = at[start : start + _BATCH]
            pair = places[part], places[part + distance]
            yield np.minimum(*pair), np.maximum(*pair)


def _compare(
    sides: tuple[Sketches, Sketches], numbers: Sketches, first: Numbers, second: Numbers
) -> tuple[Truths, Truths]:
    """Tell of each pair of rows if they are near-duplicates, and if both sides are the same."""
    asked, answered = (_likeness(side[first], side[second]) for side in sides)
    short = (sides[1][first, _SHORT - 1] == _NONE) | (sides[1][second, _SHORT - 1] == _NONE)
    equal_numbers = numbers[first] == numbers[second]
    strict = equal_numbers & (asked.common >= _SAME) & (answered.common >= _SAME)
    loose = asked.same & answered.alike | asked.alike & answered.same
    return strict | equal_numbers & ~short & loose, strict


class _Likeness(NamedTuple):
    common: NDArray[np.float64]
    same: Truths
    alike: Truths


def _likeness(first: Sketches, second: Sketches) -> _Likeness:
    """The share of common words of each pair of sketches, of those of one text among the longer."""
    import numpy as np

    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    real = both != _NONE
    repeated = np.zeros_like(real)
    repeated[:, 1:] = (both[:, 1:] == both[:, :-1]) & real[:, 1:]
    # Of texts with more words than were kept, only the smallest of both together are comparable.
    limit = np.where((first[:, -1] != _NONE) | (second[:, -1] != _NONE), _SIZE, 2 * _SIZE)
    counted = (np.cumsum(real & ~repeated, axis=1) <= limit[:, None]) & real
    words = (counted & ~repeated).sum(axis=1)
    shared = (counted & repeated).sum(axis=1)
    common = shared / words
    smaller = np.minimum((first != _NONE).sum(axis=1), (second != _NONE).sum(axis=1))
    within = (shared >= _CONTAINED * smaller) & (limit > _SIZE)
    same = (common >= _SAME) | (within & (common >= _ALIKE))
    return _Likeness(common, same, (common >= _ALIKE) | (within & (common >= _LEAST)))


class Grouped(NamedTuple):
    """The pairs that hold together, and the openings that follow another one because of them.

    ``followers`` are openings with the opening of the first row of their group; ``templates`` the
    first row and the number of rows of each chain that was too long to be held together as it was.
    """

    pairs: list[Pair]
    followers: dict[bytes, bytes]
    templates: list[tuple[int, int]]


def group(pairs: Sequence[Pair], openings: bytes | bytearray, width: int) -> Grouped:
    """Chain near-duplicates, and rows that open alike, into groups of one side.

    A chain of more than a tenth of all rows (and more than 16) is one of instances of a template:
    there the pairs are left of which both sides are the same almost word for word. Where even that
    makes such a chain, none is.

    Args:
        pairs: Near-duplicates.
        openings: The keys of how the rows open, each of ``width`` bytes.
        width: The length of a key.
    """
    import numpy as np

    keys = np.frombuffer(bytes(openings), f"V{width}")
    _, first, opening = np.unique(keys, return_index=True, return_inverse=True)
    left, templates = list(pairs), []
    for strictly in (True, False):
        labels, sizes = _chains(left, opening)
        long = sizes[labels] > max(_LARGEST, len(keys) * _SHARE)
        long &= np.bincount(labels)[labels] > 1  # openings, for one alone is no chain
        if strictly:
            chains = {int(label) for label in labels[long]}
            templates = [(int(first[labels == c].min()), int(sizes[c])) for c in sorted(chains)]
        left = [p for p in left if not long[opening[p.first]] or (strictly and p.strict)]
    labels, _ = _chains(left, opening)
    leaders: dict[int, int] = {}
    for place in np.argsort(first).tolist():
        leaders.setdefault(int(labels[place]), int(first[place]))
    followers = {
        keys[row].tobytes(): keys[leaders[int(label)]].tobytes()
        for row, label in zip(first.tolist(), labels.tolist(), strict=True)
        if leaders[int(label)] != row
    }
    return Grouped(left, followers, templates)


def _chains(pairs: Sequence[Pair], opening: Numbers) -> tuple[Numbers, Numbers]:
    """The chain of each opening, and the rows of each chain."""
    import numpy as np

    chains = list(range(int(opening.max()) + 1))

    def chain_of(place: int) -> int:
        while chains[place] != place:
            chains[place] = place = chains[chains[place]]
        return place

    for pair in pairs:
        first, second = (chain_of(int(opening[row])) for row in pair[:2])
        chains[max(first, second)] = min(first, second)
    labels = np.fromiter(map(chain_of, range(len(chains))), np.int64, len(chains))
    return labels, np.bincount(labels[opening], minlength=len(chains))


def droppable(pairs: Iterable[Pair]) -> dict[int, int]:
    """Rows to leave out, each with the earlier row that stays and is nearly the same."""
    dropped: dict[int, int] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.second, pair.first)):
        if pair.first not in dropped:
            dropped.setdefault(pair.second, pair.first)
    return dropped
