"""The layers of a decoder: which of them are trained, and a part of them run alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_LAYER = re.compile(r"\.layers\.(\d+)\.")


def lowest_trained_layer(model: Any) -> int:
    """The number of the lowest layer with trainable weights, counted from 0 at the bottom."""
    names = (name for name, weight in model.named_parameters() if weight.requires_grad)
    return min(int(match[1]) for name in names if (match := _LAYER.search(name)))


@contextmanager
def layers_only(decoder: Any, part: slice, norm: bool = True) -> Iterator[None]:
    """Let ``decoder`` consist of ``part`` of its layers, with or without the final norm."""
    modules = decoder._modules
    before = dict(modules)
    modules["layers"] = nn.ModuleList(list(before["layers"])[part])
    if not norm:
        modules["norm"] = nn.Identity()
    try:
        yield
    finally:
        modules.update(before)
