"""A tiny SentencePiece vocabulary in a GGUF file, as Gemma, Phi-3 and Mistral have one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gguf

from tests.families import Chat
from tests.home import ROOT

_SIZE = 512


def adds_sentencepiece(space_prefix: bool) -> Callable[[Any, Any, Chat], None]:
    """What writes the vocabulary in place of the tiny models' own; texts may begin with a space."""

    def add(writer: gguf.GGUFWriter, _: Any, chat: Chat) -> None:
        tokens, types, scores = _vocabulary(chat)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_bos_token_id(tokens.index(chat.bos))
        writer.add_eos_token_id(tokens.index(chat.eos))
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(chat.adds_bos)
        writer.add_add_space_prefix(space_prefix)
        writer.add_chat_template(chat.template)

    return add


def _vocabulary(chat: Chat) -> tuple[list[str], list[int], list[float]]:
    """Tokens, types and scores: special tokens, bytes, and merges, the first ones best."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Replace(" ", "▁")
    rows = (ROOT / "data/sample/test.jsonl").read_text(encoding="utf-8").splitlines()
    words = [word for row in rows for word in row.replace(" ", " \n").split("\n")]
    free = _SIZE - 256 - len(chat.special)
    bpe.train_from_iterator(words, trainers.BpeTrainer(vocab_size=free, show_progress=False))
    made = json.loads(bpe.to_str())["model"]
    rank = {"".join(pair): -1.0 - number for number, pair in enumerate(made["merges"])}
    pieces = sorted(made["vocab"], key=made["vocab"].__getitem__)
    kinds = gguf.TokenType
    rows_of = [
        *((token, kinds.CONTROL, 0.0) for token in chat.special),
        *((f"<0x{byte:02X}>", kinds.BYTE, 0.0) for byte in range(256)),
        *((piece, kinds.NORMAL, rank.get(piece, -1e6)) for piece in pieces),
    ]
    missing = range(len(rows_of), _SIZE)
    rows_of += [(f"[PAD{number}]", kinds.UNUSED, -1e9) for number in missing]
    tokens, types, scores = zip(*rows_of, strict=True)
    return list(tokens), [int(kind) for kind in types], list(scores)
