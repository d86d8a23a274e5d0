"""The shape of a model, read from the header of its .gguf file or known from its publication."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from setup.common.errors import FixableError
from setup.recipe.local import Model
from setup.weights.fetch import model_path
from setup.weights.gguf_file import Header, open_header

_IN_LAYER = re.compile(r"blk\.(\d+)\.\w+\.weight")


@dataclass(frozen=True)
class Shape:
    """The numbers that memory and time follow from.

    ``inner`` is the width of the feed-forward part, ``products`` the (inputs, outputs) of one
    layer's matrices, ``weights`` all of the model's.
    """

    layers: int
    width: int
    inner: int
    vocabulary: int
    weights: int
    products: tuple[tuple[int, int], ...]

    @property
    def layer_weights(self) -> int:
        """The weights in the matrices of one layer."""
        return sum(inputs * outputs for inputs, outputs in self.products)

    def trained(self, rank: int, layers: int) -> int:
        """Count the weights of LoRA of ``rank`` on the matrices of ``layers`` layers."""
        return layers * rank * sum(inputs + outputs for inputs, outputs in self.products)


# As published: 32 layers, 24 heads of 128 with 8 of keys and values, and one matrix for both ends.
PHI_4_MINI = Shape(
    layers=32,
    width=3072,
    inner=8192,
    vocabulary=200_064,
    weights=3_836_021_760,
    products=((3072, 5120), (3072, 3072), (3072, 16_384), (8192, 3072)),
)
_PUBLISHED = {"phi-4-mini-instruct": PHI_4_MINI}


def shape_of(model: Model) -> Shape | None:
    """The shape of a recipe's model; None where the file is not here and nobody published it here.

    Raises:
        FixableError: The file is damaged.
    """
    path = model_path(model)
    if path.is_file():
        return read_shape(path)
    names = (shape for name, shape in _PUBLISHED.items() if name in model.file.lower())
    return next(names, None)


def read_shape(path: Path) -> Shape | None:
    """The shape of a .gguf file by its header; None where a number stands for each layer apart."""
    header = open_header(path)
    try:
        sizes = [_whole(header, key) for key in ("block_count", "embedding_length")]
    except FixableError:
        return None
    products = _products(header)
    if not products or "token_embd.weight" not in header.tensors:
        return None
    return Shape(
        layers=sizes[0],
        width=sizes[1],
        inner=_inner(header, products),
        vocabulary=int(header.tensors["token_embd.weight"].shape[1]),
        weights=sum(int(tensor.n_elements) for tensor in header.tensors.values()),
        products=products,
    )


def _whole(header: Header, key: str) -> int:
    value = header.get(key)
    if not isinstance(value, int):
        raise header.unknown(key)
    return value


def _inner(header: Header, products: tuple[tuple[int, int], ...]) -> int:
    """Return the width of the feed-forward part, which some files give for each layer apart."""
    value = header.get("feed_forward_length")
    return value if isinstance(value, int) else max(max(ends) for ends in products)


def _products(header: Header) -> tuple[tuple[int, int], ...]:
    """Return the matrices of the first layer."""
    return tuple(
        (int(tensor.shape[0]), int(tensor.shape[1]))
        for name, tensor in header.tensors.items()
        if (match := _IN_LAYER.fullmatch(name)) and match[1] == "0" and len(tensor.shape) == 2
    )
