"""llama.cpp with the exported files and transformers with peft compute the same model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from setup.weights.adapter import Adapter, Pair, read_adapter
from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
from tests.setup.weights.served import serve
from tests.setup.weights.tuned import QUESTIONS, Tuned, make_tuned, most_likely

pytestmark = pytest.mark.slow

# Natural logarithms: half precision moves these models by about 0.002, a wrong update by 0.3.
BOUND = 0.01
TIE = 0.05


def _quiet(done: int, total: int) -> None:
    assert 0 < done <= total


def difference(tuned: Tuned, model: Path, lora: Path | None = None) -> tuple[float, float]:
    """How far llama.cpp is from the reference: mean over all next tokens, worst greedy choice."""
    vocabulary = len(tuned.tokenizer)
    plain = tuned.tokenizer.convert_tokens_to_ids("a")
    apart, choices = [], []
    with serve(model, lora) as served:
        for prompt in tuned.prompts(QUESTIONS):
            given = served.next_token(prompt, vocabulary, plain)
            apart.append(np.abs(given - tuned.logprobs(prompt)[-1]).mean())
            choices.append(most_likely(tuned, prompt, served.answer(prompt, 12)))
    return float(np.mean(apart)), max(choices)


def test_merged_gguf_answers_like_the_peft_model(
    tuned: Tuned, adapter: Adapter, tmp_path: Path
) -> None:
    merge_into_gguf(tuned.base, adapter, tmp_path / "merged.gguf", _quiet)
    mean, choice = difference(tuned, tmp_path / "merged.gguf")
    assert mean < BOUND
    assert choice < TIE


def test_adapter_gguf_beside_the_base_answers_like_the_peft_model(
    tuned: Tuned, adapter: Adapter, tmp_path: Path
) -> None:
    write_adapter_gguf(tuned.base, adapter, tmp_path / "adapter.gguf")
    mean, choice = difference(tuned, tuned.base, tmp_path / "adapter.gguf")
    assert mean < BOUND
    assert choice < TIE


def test_the_bound_tells_the_tuned_model_from_its_base(tuned: Tuned) -> None:
    mean, choice = difference(tuned, tuned.base)
    assert mean > 10 * BOUND
    assert choice > TIE


def test_the_bound_tells_queries_and_keys_in_the_wrong_order(llama: Tuned, tmp_path: Path) -> None:
    adapter = read_adapter(llama.adapter)
    heads = {"q_proj": 4, "k_proj": 2}
    pairs = {
        module: _misordered(pair, heads[kind])
        if (kind := module.rsplit(".", 1)[-1]) in heads
        else pair
        for module, pair in adapter.pairs.items()
    }
    wrong = dataclasses.replace(adapter, pairs=pairs)
    merge_into_gguf(llama.base, wrong, tmp_path / "wrong.gguf", _quiet)
    assert difference(llama, tmp_path / "wrong.gguf")[0] > 5 * BOUND


def _misordered(pair: Pair, heads: int) -> Pair:
    """Rows such that the export's reordering brings them back to where transformers has them."""
    rows = pair.b.reshape(heads, -1, 2, pair.b.shape[1]).swapaxes(1, 2).reshape(pair.b.shape)
    return Pair(pair.a, rows)


@pytest.fixture(scope="module")
def smollm2(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("smollm2")
    return make_tuned(model, folder, 0.3, layers_to_transform=list(range(20, 30)))


THINGS = [
    *("bread", "rain", "gold", "Paris", "tea", "a violin", "the Moon", "salt", "chess", "ice"),
    *("a whale", "steel", "Rome", "honey", "a poem", "sand", "a clock", "wool", "fire", "a map"),
]


def test_merged_smollm2_answers_like_the_peft_model(smollm2: Tuned, tmp_path: Path) -> None:
    target = tmp_path / "merged.gguf"
    merge_into_gguf(smollm2.base, read_adapter(smollm2.adapter), target, _quiet)
    prompts = [
        smollm2.tokenizer(f"The most important thing about {x} is").input_ids for x in THINGS
    ]
    with serve(target) as served:
        answers = [served.answer(prompt, 5) for prompt in prompts]
    pairs = list(zip(prompts, answers, strict=True))
    assert max(most_likely(smollm2, *pair) for pair in pairs) < TIE
    with smollm2.model.disable_adapter():
        assert np.mean([most_likely(smollm2, *pair) for pair in pairs[:5]]) > TIE
