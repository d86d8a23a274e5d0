"""Proof that llama.cpp and transformers compute one model, for architectures that no table knows.

A random adapter is put on every linear layer; both must give the same tokens for a text, and the
same probabilities for what follows it. That covers the names of the tensors, the order of their
rows, the adapter's export and the arithmetic, for texts as short as these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from setup.common import console
from setup.common.errors import FixableError
from setup.weights.adapter import Adapter, Pair
from setup.weights.gguf_file import Header
from setup.weights.gguf_write import write_adapter_gguf
from setup.weights.llama_cpp import Ask, NoAnswerError, asked

_TEXTS = (
    "The capital of France is",
    "It's 12:30 on 3 May 2025, and  two spaces cost 1,234.50 euros.\n\n\tWe don't\nsell",
    "Übergröße, Ελλάδα, مرحبا بكم, 你好, नमस्ते: five ways to say",
)
_RANK, _CHANGE = 2, 0.3  # of the random adapter, and its size beside the weights
_COMPARED = 20  # of the likeliest next tokens
# Nats. Half precision moves probabilities by some thousandths, bf16 by hundredths, quantisation by
# tenths.
_BOUND, _BOUND_BF16, _BOUND_QUANTISED = 0.02, 0.1, 0.5
_TOLD_APART = 5  # times smaller than what the adapter changes must the difference be
_UNQUANTISED = {"F16", "F32", "BF16"}
_FIX = (
    "name as finetune.base the transformers model that the file was made of, or a model.source of "
    "a family in docs/fine-tuning.md"
)


def refuse_disagreement(
    header: Header, model: Any, tokenizer: Any, linear: list[str], window: int
) -> None:
    """Raise FixableError unless ``model`` with an adapter computes what llama.cpp does with both.

    ``linear`` are the last names of the layers that adapters are put on, ``window`` the tokens of a
    conversation: what looks back less far than that is not told by a short text.
    """
    _refuse_window(header, model, window)
    adapter = _random_adapter(model, linear)
    with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
        path = Path(folder) / "adapter.gguf"
        try:
            write_adapter_gguf(header.path, adapter, path)
        except FixableError as error:
            raise _refused(header, error.what.rpartition(": ")[2]) from None
        try:
            with asked(header.path, path) as ask:
                apart, changed = _measure(model, tokenizer, adapter, ask, header)
        except NoAnswerError as error:
            raise _refused(header, str(error)) from None
    if not apart < min(_bound(header, model), changed / _TOLD_APART):
        raise _refused(header, f"probabilities differ by {apart:.3f} nats")
    told = (
        f"{header.architecture} is in no table here; with a random adapter it computes what "
        f"llama.cpp does, {apart:.4f} nats apart"
    )
    console.err.print(told, markup=False)


def _bound(header: Header, model: Any) -> float:
    types = {tensor.tensor_type.name for tensor in header.tensors.values()}
    if not types <= _UNQUANTISED:
        return _BOUND_QUANTISED
    return _BOUND if model.dtype.itemsize > 2 else _BOUND_BF16


def _refused(header: Header, reason: str) -> FixableError:
    what = f"{header.path} cannot be trained as it is served: it is of architecture "
    return FixableError(f"{what}{header.architecture}, of which {reason}", _FIX)


def _refuse_window(header: Header, model: Any, window: int) -> None:
    own = getattr(model.config, "sliding_window", None)
    if own and own < window and header.get("attention.sliding_window") != own:
        raise _refused(header, f"the base looks back {own} tokens, which the file does not say")


def _random_adapter(model: Any, linear: list[str]) -> Adapter:
    chance, pairs = np.random.default_rng(0), {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] not in linear or not hasattr(module, "weight"):
            continue
        out, into = module.weight.shape
        spread = _CHANGE * module.weight.float().std().item() * np.sqrt(into / _RANK)
        a = chance.normal(0, into**-0.5, (_RANK, into)).astype(np.float32)
        pairs[name] = Pair(a, chance.normal(0, spread, (out, _RANK)).astype(np.float32))
    return Adapter(Path("a random adapter"), _RANK, 1.0, pairs)


def _measure(
    model: Any, tokenizer: Any, adapter: Adapter, ask: Ask, header: Header
) -> tuple[float, float]:
    """The mean distance of both, and what the adapter changes, in nats."""
    apart, changed = [], []
    plain = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    for text in _TEXTS:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if ask("/tokenize", {"content": text, "add_special": False})["tokens"] != ids:
            raise _refused(header, f"the tokens of {text[:20]!r} differ")
        # Only a token that ends a character is told with its rivals: one is forced.
        body = {"prompt": ids, "n_predict": 1, "n_probs": _COMPARED, "cache_prompt": False}
        reply = ask("/completion", body | {"temperature": 0, "logit_bias": [[plain, 1000]]})
        told = {
            token["id"]: token["logprob"]
            for token in reply["completion_probabilities"][0]["top_logprobs"]
        }
        with _adapted(model, adapter):
            tuned = _next_token(model, ids)
        numbers, values = list(told), np.array(list(told.values()))
        apart.append(np.abs(tuned[numbers] - values).mean())
        changed.append(np.abs(tuned[numbers] - _next_token(model, ids)[numbers]).mean())
    return float(np.mean(apart)), float(np.mean(changed))


def _next_token(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    return logits.double().log_softmax(-1).numpy()


@contextmanager
def _adapted(model: Any, adapter: Adapter) -> Iterator[None]:
    """Let the modules of ``model`` add their part of ``adapter``; no weight is touched."""
    import torch

    def adding(pair: Pair) -> Any:
        a, b = torch.from_numpy(pair.a), torch.from_numpy(pair.b)
        return lambda _, given, out: out + ((given[0].float() @ a.t()) @ b.t()).to(out)

    hooks = [
        model.get_submodule(name).register_forward_hook(adding(pair))
        for name, pair in adapter.pairs.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
