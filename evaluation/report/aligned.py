"""Cells of text as lines: one for each row of a wide console, two or three of a narrow one."""

from __future__ import annotations

from collections.abc import Container, Sequence

Cells = Sequence[str]

_GAP = "  "


def aligned(rows: Sequence[Cells], right: Container[int] = ()) -> list[str]:
    """Lines of columns as wide as their widest cell; those numbered in ``right`` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_GAP.join(_placed(row, widths, right)).rstrip() for row in rows]


def stacked(rows: Sequence[tuple[Cells, Cells]], right: Container[int], width: int) -> list[str]:
    """Lines of rows of two lines, the second indented, both in the same columns.

    Where that is wider than ``width``, the first cell of a row stands on a line of its own.
    """
    pairs = [(upper, [f"{_GAP}{lower[0]}", *lower[1:]]) for upper, lower in rows]
    lines = aligned([row for pair in pairs for row in pair], right)
    if max(map(len, lines)) <= width:
        return lines
    rest = aligned([row for upper, lower in pairs for row in (["", *upper[1:]], lower)], right)
    names = (upper[0] for upper, _ in pairs)
    named = zip(names, rest[::2], rest[1::2], strict=True)
    return [line for name, *two in named for line in (name, *two)]


def _placed(cells: Cells, widths: Sequence[int], right: Container[int]) -> list[str]:
    return [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
