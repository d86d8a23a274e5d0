"""Models small enough to train, export and serve within a test: random weights, a real tokenizer.

Each is written twice from the same weights, as a GGUF file that llama.cpp loads and as a
transformers folder beside it. The weights are rounded to half precision first, so that both say
the same. The chat template ends a turn with the token that also ends generation, as real models do.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.families import CHATML, FAMILIES, PAIRED, Chat, gguf_keys
from tests.home import ROOT

TEMPLATE = CHATML.template
_ARCHITECTURES = {"gemma3_text": "gemma3", "mistral": "llama"}

CONTEXT = 512
_VOCABULARY = 512
_SHAPE: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    # Wide, so that the next token is no toss-up between all of them.
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}


def make_tiny_llama(folder: Path, **shape: Any) -> Path:
    """Write ``llama.gguf`` and the folder ``llama``: grouped-query attention, tied embeddings.

    ``shape`` replaces values of the configuration.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**_SHAPE, "tie_word_embeddings": True, **shape}))
    return _write(model, folder / "llama.gguf")


def make_tiny_phi3(folder: Path, **shape: Any) -> Path:
    """Write ``phi.gguf`` and the folder ``phi``: fused projections, an output matrix of its own."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(1)
    model = Phi3ForCausalLM(Phi3Config(**{**_SHAPE, "tie_word_embeddings": False, **shape}))
    return _write(model, folder / "phi.gguf")


def transformers_folder(gguf: Path) -> Path:
    """The transformers folder with the weights of the tiny model at ``gguf``."""
    return gguf.with_suffix("")


def alter_gguf(
    source: Path,
    target: Path,
    keys: dict[str, Any],
    tensors: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write ``source`` to ``target`` with other ``keys`` (without their architecture) and tensors.

    ``without`` names whole keys and tensors that are left out.
    """
    import gguf

    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    changes = {f"{architecture}.{key}": value for key, value in keys.items()}
    left_out = {"general.architecture", *changes, *without}
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name not in left_out and not name.startswith("GGUF."):
            element = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=element)
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds |= {str: writer.add_string, list: writer.add_array}
    for name, value in changes.items():
        kinds[type(value)](name, value)
    for tensor in reader.tensors:
        if tensor.name not in left_out and tensor.name not in (tensors or {}):
            writer.add_tensor(tensor.name, tensor.data)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.asarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def make_tiny(family: str, folder: Path, chat: Chat | None = None, **shape: Any) -> Path:
    """Write ``FAMILY.gguf`` and the folder ``FAMILY`` of a model of ``FAMILIES``.

    Norms and biases are random too, where a new model would have ones and zeros that hide mistakes.
    """
    import torch
    import transformers

    made = FAMILIES[family]
    torch.manual_seed(2)
    config = getattr(transformers, made.configuration)(**{**_SHAPE, **made.shape, **shape})
    model = transformers.AutoModelForCausalLM.from_config(config)
    for weights in model.parameters():
        if weights.ndim == 1:
            torch.nn.init.normal_(weights, weights.mean().item(), 0.2)
    return _write(model, folder / f"{family}.gguf", chat)


def _write(model: Any, target: Path, chat: Chat | None = None) -> Path:
    chat = chat or replace(CHATML, template=TEMPLATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    model.half().float().eval()
    folder = transformers_folder(target)
    tokenizer = make_tokenizer(chat)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_gguf(model, tokenizer, target, chat)
    return target


def make_tokenizer(chat: Chat, *texts: str) -> Any:
    """A byte-level BPE of the sample's words and of ``texts``, with ``chat``'s special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[AddedToken(token, normalized=False) for token in chat.special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rows = (ROOT / "data/sample/test.jsonl").read_text(encoding="utf-8").splitlines()
    bpe.train_from_iterator([*rows, *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=chat.bos,
        eos_token=chat.eos,
        pad_token=chat.eos,
        unk_token=chat.special[0],
        additional_special_tokens=[
            token for token in chat.special if token not in (chat.bos, chat.eos, chat.special[0])
        ],
        chat_template=chat.template,
    )


def _write_gguf(model: Any, tokenizer: Any, target: Path, chat: Chat) -> None:
    import gguf

    kind = model.config.model_type
    architecture = _ARCHITECTURES.get(kind, kind)
    writer = gguf.GGUFWriter(target, architecture)
    # llama.cpp looks up special tokens of its own where a name has "phi3" in it.
    writer.add_name(f"Tiny {kind[:3]}")
    _add_shape(writer, model.config)
    for key, value in gguf_keys(model.config).items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        (writer.add_string if isinstance(value, str) else add)(f"{architecture}.{key}", value)
    _add_tokenizer(writer, tokenizer, chat)
    arch = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        array = weights.numpy()
        if architecture in PAIRED:
            array = _interleave(name, array, model.config)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            array = array + 1
        array = array.astype(np.float16 if array.ndim > 1 else np.float32)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(name: str, rows: np.ndarray, config: Any) -> np.ndarray:
    """Llama's query and key rows in the order of llama.cpp's rotary embedding: pairs adjacent."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])  # of "….q_proj.weight" and "….q_proj.bias"
    if count is None:
        return rows
    size = rows.shape[0] // count
    order = [
        head * size + half * size // 2 + pair
        for head in range(count)
        for pair in range(size // 2)
        for half in range(2)
    ]
    return rows[order]


def _add_shape(writer: Any, config: Any) -> None:
    import gguf

    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: Any, tokenizer: Any, chat: Chat) -> None:
    import gguf

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in chat.special else normal for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(chat.adds_bos)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(chat.template)
