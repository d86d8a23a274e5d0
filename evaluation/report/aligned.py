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

    Where that is wider than ``width``, both first cells of a row stand on a line before the others.
    """
    lines = aligned([row for up, low in rows for row in (up, [_GAP + low[0], *low[1:]])], right)
    if max(map(len, lines)) <= width:
        return lines
    rest = aligned([["", *cells[1:]] for row in rows for cells in row], right)
    names = (f"{upper[0]}{_GAP}{lower[0]}" for upper, lower in rows)
    named = zip(names, rest[::2], rest[1::2], strict=True)
    return [line for name, *two in named for line in (name, *two)]


def _placed(cells: Cells, widths: Sequence[int], right: Container[int]) -> list[str]:
    return [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
