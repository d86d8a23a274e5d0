"""Quantised files are llama.cpp's own mixtures, and their loss is what the engine computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from setup.common.errors import FixableError
from setup.finetune.examples.render import Example
from setup.local.engine_loss import Sample, engine_loss
from setup.recipe.local import Quantization
from setup.weights import quantize
from setup.weights.base import load_base
from setup.weights.gguf_file import open_gguf
from setup.weights.quantize import quantize_gguf
from tests.tiny import make_tiny_llama, make_tiny_phi3

ALL = list(Quantization)
# llama.cpp gives more bits to the outermost eighths of the layers and to each third between.
MORE = {0, 3, 6, 7}
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose rows divide into blocks of 256."""
    return make_tiny_llama(tmp_path_factory.mktemp("wide"), **WIDE)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with rows of 64, and of 256 alone in the way down."""
    return make_tiny_llama(tmp_path_factory.mktemp("narrow"), intermediate_size=256)


def _made(base: Path, target: Path, mixture: Quantization) -> tuple[Any, str]:
    remarks = quantize_gguf(base, target, mixture, lambda *_: None)
    return open_gguf(target), "; ".join(remarks)


def _types(reader: Any) -> dict[str, str]:
    return {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}


@pytest.mark.parametrize(
    ("mixture", "plain", "better"),
    [
        (Quantization.Q4_K_M, "Q4_K", "Q6_K"),
        (Quantization.Q5_K_M, "Q5_K", "Q6_K"),
        (Quantization.Q8_0, "Q8_0", "Q8_0"),
    ],
)
def test_types(wide: Path, tmp_path: Path, mixture: Quantization, plain: str, better: str) -> None:
    reader, told = _made(wide, tmp_path / "made.gguf", mixture)
    assert told == ""
    for name, kind in _types(reader).items():
        if "norm" in name:
            assert kind == "F32", name
        elif name == "token_embd.weight":
            assert kind == better
        else:
            _, layer, part, _ = name.split(".")
            matters = part in {"attn_v", "ffn_down"} and int(layer) in MORE
            assert kind == (better if matters else plain), name
    number = gguf.LlamaFileType[f"MOSTLY_{mixture}"]
    assert reader.fields["general.file_type"].contents() == number
    assert reader.fields["general.quantization_version"].contents() == 2
    assert reader.fields["tokenizer.chat_template"].contents()


def test_fused_queries_count_as_values(tmp_path: Path) -> None:
    base = make_tiny_phi3(tmp_path, **WIDE)
    types = _types(_made(base, tmp_path / "made.gguf", Quantization.Q4_K_M)[0])
    assert types["output.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"
    assert {n for n in range(8) if types[f"blk.{n}.attn_qkv.weight"] == "Q6_K"} == MORE


def test_rows_that_do_not_divide(narrow: Path, tmp_path: Path) -> None:
    reader, told = _made(narrow, tmp_path / "made.gguf", Quantization.Q4_K_M)
    types = _types(reader)
    assert types["blk.1.attn_q.weight"] == "Q5_0"
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.ffn_down.weight"] in {"Q4_K", "Q6_K"}
    assert "attn_q" in told
    assert "ffn_down" not in told


def test_rows_that_divide_into_nothing(tmp_path: Path) -> None:
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 2}
    base = make_tiny_llama(tmp_path, **shape, num_key_value_heads=1)
    reader, told = _made(base, tmp_path / "made.gguf", Quantization.Q8_0)
    assert set(_types(reader).values()) == {"F32", "F16"}
    assert "in F16" in told


def test_the_same_blocks_as_another_program_makes(narrow: Path, tmp_path: Path) -> None:
    """Numbers of gguf's own arithmetic, which is written in Python."""
    source = {tensor.name: tensor for tensor in open_gguf(narrow).tensors}
    for mixture in (Quantization.Q8_0, Quantization.Q5_K_M):
        reader, _ = _made(narrow, tmp_path / "made.gguf", mixture)
        compared = set()
        for tensor in reader.tensors:
            if tensor.tensor_type.name in {"Q8_0", "Q5_1"}:
                whole = source[tensor.name].data.astype(np.float32)
                np.testing.assert_array_equal(
                    tensor.data, gguf.quantize(whole, tensor.tensor_type), tensor.name
                )
                compared.add(tensor.tensor_type.name)
        assert "Q8_0" in compared


@pytest.mark.parametrize("mixture", ALL)
def test_weights_stay_near(wide: Path, tmp_path: Path, mixture: Quantization) -> None:
    """Blocks in a wrong order, or of a wrong type, would be nowhere near."""
    source = {tensor.name: tensor for tensor in open_gguf(wide).tensors}
    for tensor in _made(wide, tmp_path / "made.gguf", mixture)[0].tensors:
        whole = np.asarray(source[tensor.name].data, np.float32)
        read = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.linalg.norm(read - whole) <= 0.1 * np.linalg.norm(whole)


def test_without_the_engines_quantiser(
    narrow: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: eight bits are made all the same, and equal; the others are refused."""
    target, other = tmp_path / "made.gguf", tmp_path / "other.gguf"
    quantize_gguf(narrow, target, Quantization.Q8_0, lambda *_: None)
    monkeypatch.setattr(quantize, "_ggml", lambda: None)
    quantize_gguf(narrow, other, Quantization.Q8_0, lambda *_: None)
    assert other.read_bytes() == target.read_bytes()
    with pytest.raises(FixableError, match=r"Q4_K_M cannot be made here.*Fix: take Q8_0"):
        quantize_gguf(wide, tmp_path / "none.gguf", Quantization.Q4_K_M, lambda *_: None)
    assert not (tmp_path / "none.gguf").exists()


def test_what_was_rounded_before_is_said(wide: Path, tmp_path: Path) -> None:
    _made(wide, tmp_path / "once.gguf", Quantization.Q4_K_M)
    _, told = _made(tmp_path / "once.gguf", tmp_path / "twice.gguf", Quantization.Q8_0)
    assert told == "once.gguf is quantised already (Q4_K, Q6_K): what that rounded stays lost"


def test_interrupted(narrow: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_gguf(narrow, tmp_path / "made.gguf", Quantization.Q8_0, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_loss_is_that_of_the_engine(wide: Path, tmp_path: Path) -> None:
    """In halves what transformers computes; in fewer bits what that makes of the file's weights.

    With an answer of letters that several tokens make up, which the server reports otherwise.
    """
    import torch

    model, tokenizer = load_base(str(wide), torch.float32)
    texts = ["The lamp costs 7 euros.<|im_end|>", "Ça, 🙂 ß 灯!<|im_end|>", "No<|im_end|>"]
    examples = []
    for text in texts:
        asked = tokenizer("<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
        answer = tokenizer(text)["input_ids"]
        examples.append(Example(asked + answer, list(range(len(asked), len(asked) + len(answer)))))
    sample = Sample.of_examples(examples, tokenizer("a")["input_ids"][-1])
    assert str(sample).endswith("of 3 of 3 held-out conversations")
    assert engine_loss(wide, sample, "it") == pytest.approx(_loss(model, examples), abs=0.005)
    target = tmp_path / "made.gguf"
    quantize_gguf(wide, target, Quantization.Q8_0, lambda *_: None)
    quantised, _ = load_base(str(target), torch.float32)
    # llama.cpp rounds the activations to eight bits as well.
    assert engine_loss(target, sample, "it") == pytest.approx(_loss(quantised, examples), abs=0.05)


def _loss(model: Any, examples: list[Example]) -> float:
    import torch

    total = count = 0.0
    for example in examples:
        with torch.no_grad():
            given = model(torch.tensor([example.ids])).logits[0].double().log_softmax(-1)
        total -= sum(float(given[place - 1, example.ids[place]]) for place in example.labelled)
        count += len(example.labelled)
    return total / count


def test_file_that_the_engine_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF and then nothing")
    sample = Sample([Example([1, 2, 3], [2])], 5, 1)
    with pytest.raises(FixableError, match=r"llama.cpp does not load .*no\.gguf"):
        engine_loss(tmp_path / "no.gguf", sample, "it")
