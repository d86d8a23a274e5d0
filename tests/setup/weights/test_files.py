"""What stands in the exported files, and what is left when one cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from setup.common.errors import FixableError
from setup.recipe.local import Quantization
from setup.weights.adapter import Adapter, read_adapter
from setup.weights.base import load_base
from setup.weights.gguf_file import open_gguf
from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
from setup.weights.quantize import quantize_gguf
from setup.weights.transformers_write import write_merged_safetensors
from tests.setup.weights.tuned import Tuned
from tests.tiny import TEMPLATE, transformers_folder


def _merged(tuned: Tuned) -> dict[str, torch.Tensor]:
    """peft's own merge, in a model of its own."""
    from peft import PeftModel

    base, _ = load_base(str(tuned.base), torch.float32)
    return dict(PeftModel.from_pretrained(base, tuned.adapter).merge_and_unload().state_dict())


@pytest.mark.parametrize("source", [Path, transformers_folder])
def test_merged_folder_is_what_peft_merges(
    tuned: Tuned, adapter: Adapter, tmp_path: Path, source: Callable[[Path], Path]
) -> None:
    write_merged_safetensors(source(tuned.base), adapter, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert model.dtype == torch.float16
    expected = _merged(tuned)
    weights = model.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        # One unit in the last place of half precision.
        torch.testing.assert_close(weights[name].float(), tensor, rtol=2**-10, atol=1e-7)
    config = json.loads((tmp_path / "merged/config.json").read_text())
    assert "quantization_config" not in config
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer("The lamp").input_ids == tuned.tokenizer("The lamp").input_ids


def test_merged_gguf_keeps_all_that_is_not_adapted(
    tuned: Tuned, adapter: Adapter, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "new/merged.gguf"
    merge_into_gguf(tuned.base, adapter, target, lambda *given: seen.append(given))
    base, merged = open_gguf(tuned.base), open_gguf(target)
    assert _metadata(merged) == _metadata(base)
    assert [t.name for t in merged.tensors] == [t.name for t in base.tensors]
    changed = 0
    for before, after in zip(base.tensors, merged.tensors, strict=True):
        assert after.tensor_type == before.tensor_type
        changed += not np.array_equal(before.data, after.data)
    assert changed == len(adapter.pairs)
    assert seen == [(n, len(base.tensors)) for n in range(1, len(base.tensors) + 1)]
    assert list(target.parent.iterdir()) == [target]


def test_quantised_base_is_dequantised(llama: Tuned, tmp_path: Path) -> None:
    quantised = tmp_path / "q8.gguf"
    _quantise(llama.base, quantised)
    adapter = read_adapter(llama.adapter)
    merge_into_gguf(llama.base, adapter, tmp_path / "full.gguf", lambda *_: None)
    merge_into_gguf(quantised, adapter, tmp_path / "merged.gguf", lambda *_: None)
    full, merged = open_gguf(tmp_path / "full.gguf"), open_gguf(tmp_path / "merged.gguf")
    for one, other in zip(full.tensors, merged.tensors, strict=True):
        assert one.tensor_type == other.tensor_type
        # Half a step of Q8_0, the largest weight of these matrices being below 1.
        np.testing.assert_allclose(one.data, other.data, atol=1 / 254)
    assert open_gguf(quantised).tensors[0].tensor_type == gguf.GGMLQuantizationType.Q8_0


def _metadata(reader: Any) -> dict[str, Any]:
    return {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }


def _quantise(source: Path, target: Path) -> None:
    reader = open_gguf(source)
    writer = gguf.GGUFWriter(target, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            element = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        if len(tensor.shape) > 1:
            weights = gguf.quantize(tensor.data.astype(np.float32), q8)
            writer.add_tensor(tensor.name, weights, raw_dtype=q8)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _merge(base: Path, adapter: Adapter, target: Path) -> None:
    merge_into_gguf(base, adapter, target, lambda *_: None)


def _quantised(base: Path, _: Adapter, target: Path) -> None:
    quantize_gguf(base, target, Quantization.Q8_0, lambda *_: None)


WRITERS = [_merge, write_adapter_gguf, write_merged_safetensors, _quantised]
Write = Callable[[Path, Adapter, Path], None]


@contextmanager
def _no_room_beyond(size: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond ``size`` bytes."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("short", [1, 20_000])
@pytest.mark.parametrize("write", WRITERS)
def test_no_room_leaves_what_was_there(
    llama: Tuned, tmp_path: Path, write: Write, short: int
) -> None:
    target, adapter = tmp_path / "out", read_adapter(llama.adapter)
    write(llama.base, adapter, target)
    size = max(map(len, _bytes(target).values()))
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    target.write_bytes(b"the version before")
    with (
        _no_room_beyond(size - short),
        pytest.raises(FixableError, match=r"cannot write .*out.*disk"),
    ):
        write(llama.base, adapter, target)
    assert target.read_bytes() == b"the version before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", WRITERS)
def test_target_that_cannot_be_made_is_refused(llama: Tuned, tmp_path: Path, write: Write) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FixableError, match="cannot write"):
        write(llama.base, read_adapter(llama.adapter), tmp_path / "file" / "out")


@pytest.mark.parametrize("write", WRITERS)
def test_second_export_replaces_the_first(llama: Tuned, tmp_path: Path, write: Write) -> None:
    target = tmp_path / "out"
    adapter = read_adapter(llama.adapter)
    write(llama.base, adapter, target)
    first = _bytes(target)
    write(llama.base, adapter, target)
    assert _bytes(target) == first
    assert list(tmp_path.iterdir()) == [target]


def _bytes(target: Path) -> dict[str, bytes]:
    files = sorted(target.rglob("*")) if target.is_dir() else [target]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that asks to end")
@pytest.mark.parametrize("write", WRITERS)
def test_export_that_is_told_to_end_leaves_nothing(
    llama: Tuned, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written last: all of a file's data lies there, and nothing of it may stay."""
    monkeypatch.setattr("setup.common.paths.use_umask", lambda _: os.kill(os.getpid(), 15))
    with pytest.raises(SystemExit) as ended:
        write(llama.base, read_adapter(llama.adapter), tmp_path / "out")
    assert ended.value.code == 128 + 15
    assert list(tmp_path.iterdir()) == []


def test_interrupted_merge_leaves_nothing(llama: Tuned, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_into_gguf(llama.base, read_adapter(llama.adapter), tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []
