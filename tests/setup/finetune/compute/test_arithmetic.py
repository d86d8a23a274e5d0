"""The parts that were written for speed compute what the libraries compute."""

from __future__ import annotations

import random
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import AutoModelForCausalLM

from setup.finetune.compute import collate as layout
from setup.finetune.compute import lora, loss
from setup.finetune.compute.collate import attention_window, collate
from setup.finetune.compute.loss import (
    compute_plainly_unless_same,
    mean_loss,
    remember_frozen,
    use_answer_loss,
    worth_remembering,
)
from setup.finetune.compute.schedule import plan_batches
from setup.finetune.examples.render import Example
from setup.recipe.local import Finetune
from tests.families import FAMILIES
from tests.setup.finetune.conftest import Families
from tests.tiny import make_tiny, transformers_folder


def _lengths(count: int) -> list[int]:
    chance = random.Random(count)  # noqa: S311
    return [int(chance.lognormvariate(4.5, 0.7)) + 10 for _ in range(count)]


@pytest.mark.parametrize("group", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [8, 25, 300, 909])
@pytest.mark.parametrize("rows", [1, 4])
def test_every_row_comes_once_an_epoch(count: int, rows: int, group: int) -> None:
    batches = plan_batches(_lengths(count), rows, 2, seed=0, group=group)
    steps = -(-count // (rows * group))
    assert len(batches) == 2 * steps * group
    for epoch in (batches[: steps * group], batches[steps * group :]):
        seen = sorted(chain(*epoch))
        extra = max(0, group - count % (rows * group)) if count % (rows * group) else 0
        assert set(seen) == set(range(count))
        assert len(seen) == count + extra
    assert all(1 <= len(batch) <= rows for batch in batches)


def test_fewer_rows_than_processes() -> None:
    (first, second, third) = plan_batches([5, 6], 4, 1, seed=0, group=3)
    assert {*first, *second, *third} == {0, 1}


@pytest.mark.parametrize(
    ("epochs", "steps"), [(0.001, 1), (0.25, 18), (1, 75), (1.25, 93), (3, 225)]
)
def test_fraction_of_an_epoch_is_its_first_steps(epochs: float, steps: int) -> None:
    lengths = _lengths(300)
    planned = plan_batches(lengths, 2, epochs, seed=0, group=2)
    assert planned == plan_batches(lengths, 2, 4, seed=0, group=2)[: 2 * steps]
    assert len(planned) == 2 * steps


def test_plan_follows_from_the_seed_alone() -> None:
    lengths = _lengths(100)
    first, again, other = (plan_batches(lengths, 4, 2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[:25] != first[25:]


@pytest.mark.parametrize("group", [1, 2, 4])
def test_hardly_any_padding(group: int) -> None:
    """Of all computed tokens; random batches of these lengths would waste two fifths."""
    lengths = _lengths(1000)
    batches = plan_batches(lengths, 4, 1, seed=0, group=group)
    computed = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert sum(lengths) / computed > 0.93
    steps = [batches[i : i + group] for i in range(0, len(batches), group)]
    longest = [[max(lengths[row] for row in batch) for batch in step] for step in steps]
    assert sum(map(sum, longest)) / sum(group * max(step) for step in longest) > 0.9


def _attach(gguf: Path, fused: bool, **values: Any) -> Any:
    settings = Finetune(learning_rate=0.1, max_tokens=64, rank=4, alpha=12, **values)
    torch.manual_seed(3)
    skip = mock.patch.object(lora, "fuse_lora", side_effect=None if fused else lambda _: None)
    folder = transformers_folder(gguf)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if fused:
        tuned = lora.attach_lora(model, settings)
    else:
        with skip:
            tuned = lora.attach_lora(model, settings)
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.2)
    return tuned


def _gradients(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model(**inputs).logits.square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two conversations of unlike length with labels in the middle."""
    chance = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, 512, (count,), generator=chance).tolist() for count in (40, 25)]
    return collate([Example(ids[0], [5, 6, 7, 30, 31]), Example(ids[1], [1, 20, 24])])


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("base", FAMILIES)
def test_fused_lora_is_that_of_peft(
    families: Families, batch: dict[str, torch.Tensor], base: str, layers: int
) -> None:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    fused, plain = (_attach(families(base), fused, layers=layers) for fused in (True, False))
    assert torch.allclose(fused(**inputs).logits, plain(**inputs).logits, atol=1e-5)
    left, right = _gradients(fused, inputs), _gradients(plain, inputs)
    assert left.keys() == right.keys()
    modules = fused.peft_config["default"].target_modules
    assert len(left) == 2 * (layers or fused.config.num_hidden_layers) * len(modules)
    for name, gradient in left.items():
        assert torch.allclose(gradient, right[name], atol=1e-5, rtol=1e-4), name
    with fused.disable_adapter(), plain.disable_adapter():
        assert torch.equal(fused(**inputs).logits, plain(**inputs).logits)


def test_only_adapters_of_the_top_layers_are_trained(tiny: dict[str, Path]) -> None:
    model = _attach(tiny["llama"], True, layers=2)
    trained = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert all("lora_" in name for name in trained)
    assert {name.split("layers.")[1][0] for name in trained} == {"1", "2"}


@pytest.mark.parametrize("base", FAMILIES)
def test_answer_loss_is_that_of_transformers(
    families: Families, batch: dict[str, torch.Tensor], base: str
) -> None:
    model = _attach(families(base), True)
    expected = model(**batch).loss
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    use_answer_loss(model)
    answer_loss = model(**batch)["loss"]
    answer_loss.backward()
    assert answer_loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(model.get_parameter(name).grad, gradient, atol=1e-6), name


def test_mean_loss_counts_tokens_and_not_rows(tiny: dict[str, Path]) -> None:
    model = _attach(tiny["llama"], True)
    chance = torch.Generator().manual_seed(1)
    examples = [
        Example(torch.randint(3, 512, (n,), generator=chance).tolist(), list(range(1, n, k)))
        for n, k in [(300, 2), (200, 5), (20, 1), (500, 3), (7, 1)]
    ]
    one_by_one = [(model(**collate([one])).loss.item(), len(one.labelled)) for one in examples]
    total = sum(count for _, count in one_by_one)
    expected = sum(loss * count for loss, count in one_by_one) / total
    use_answer_loss(model)
    model.train()
    assert mean_loss(model, examples) == pytest.approx(expected, rel=1e-5)
    assert model.training


def _alike(chance: torch.Generator) -> list[Example]:
    """Conversations that begin with the same dozen tokens, one with an answer right after."""
    common = torch.randint(3, 512, (12,), generator=chance).tolist()
    parts = [torch.randint(3, 512, (n,), generator=chance).tolist() for n in (20, 9, 14, 31)]
    labels = [[20, 21, 31], [13, 20], [25], [14, 15, 16, 42]]
    return [Example(common + own, at) for own, at in zip(parts, labels, strict=True)]


def _losses(model: Any, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    mean = model(**collate(examples, attention_window(model)))["loss"]
    mean.backward()
    return mean.item(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("base", FAMILIES)
def test_packed_and_remembered_conversations_give_the_same_gradients(
    families: Families, base: str, remembers: bool
) -> None:
    _check_packed(_attach(families(base), True, layers=2), remembers)


@pytest.mark.parametrize("base", ["gemma2", "gemma3"])
def test_conversations_within_a_window_are_packed(tmp_path: Path, base: str) -> None:
    model = _attach(make_tiny(base, tmp_path, sliding_window=64), True, layers=2)
    assert attention_window(model) == 64
    _check_packed(model, remembers=True)


def _check_packed(model: Any, remembers: bool) -> None:
    use_answer_loss(model)
    examples = _alike(torch.Generator().manual_seed(2))
    with mock.patch.object(layout, "_WORTH_IT", 1):
        assert "position_ids" not in collate(examples)
        expected, gradients = _losses(model, examples)
    if remembers:
        examples = remember_frozen(model, examples, lambda _: None)
    if attention_window(model) in (0, 64):
        shape = (1, sum(map(len, examples)) - 3 * 12)
        assert collate(examples, attention_window(model))["labels"].shape == shape
    packed_loss, packed = _losses(model, examples)
    assert packed_loss == pytest.approx(expected, rel=1e-5)
    assert packed.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(packed[name], gradient, atol=1e-6, rtol=1e-4), name


@pytest.mark.parametrize("base", FAMILIES)
def test_shortcuts_are_taken_for_every_family(families: Families, base: str) -> None:
    model = _attach(families(base), True, layers=2)
    use_answer_loss(model)
    assert compute_plainly_unless_same(model, _alike(torch.Generator().manual_seed(2))[3]) == ""


@pytest.mark.parametrize("layers", [0, 2])
def test_shortcut_that_gives_another_loss_is_not_taken(
    families: Families, batch: dict[str, torch.Tensor], layers: int
) -> None:
    """A model of tomorrow, whose output is not what is taken for it."""
    model = _attach(families("llama"), True, layers=layers)
    expected = model(**batch).loss.item()
    use_answer_loss(model)
    with mock.patch.object(loss, "_logits", side_effect=lambda _, hidden: hidden):
        told = compute_plainly_unless_same(model, _alike(torch.Generator().manual_seed(2))[0])
    assert told
    assert model(**batch)["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert attention_window(model) == 1
    assert not worth_remembering(model, [])


def test_answer_is_never_predicted_from_what_is_shared() -> None:
    same = Example([5, 6, 7, 8], [2, 3])
    assert layout.shared_prefix([same, same]) == 1
    assert layout.shared_prefix([same, Example([5, 9, 7, 8], [3])]) == 1
    assert layout.shared_prefix([Example([5, 6], [1])] * 2) == 0
