"""Models of transformers, tiny, with random weights; nothing is downloaded."""

import pytest
import torch

library = pytest.importorskip(
    "transformers", reason="transformers is not installed (pip install mpnn-arch[peers])"
)

pytestmark = pytest.mark.peers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TEXT = SIZES | {"vocab_size": 50, "max_position_embeddings": 16}
TOKENS = torch.arange(24).reshape(2, 12)
ENDS = {"bos_token_id": 0, "eos_token_id": 1}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))

# name -> (model, configuration, its settings, inputs, rounds)
MODELS = {
    "bert": ("BertModel", "BertConfig", TEXT, {"input_ids": TOKENS}, 12),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 16} | ENDS,
        {"input_ids": TOKENS},
        8,
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        TEXT | {"num_key_value_heads": 2},
        {"input_ids": TOKENS},
        14,
    ),
    "vit": (
        "ViTModel",
        "ViTConfig",
        SIZES | {"image_size": 32, "patch_size": 8},
        {"pixel_values": PIXELS},
        12,
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 50},
        {"input_ids": TOKENS, "decoder_input_ids": TOKENS},
        32,
    ),
    # Experts as one batched product: the grouped one has no form on the meta device in float32.
    "mixtral": (
        "MixtralForCausalLM",
        "MixtralConfig",
        TEXT
        | {
            "num_key_value_heads": 2,
            "num_local_experts": 4,
            "experts_implementation": "batched_mm",
        },
        {"input_ids": TOKENS},
        8,
    ),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_a_model(name, monkeypatch, check_model, refill):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kind, configuration, settings, inputs, rounds = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = refill(getattr(library, kind)(getattr(library, configuration)(**settings)))
    report = check_model(model, inputs)
    assert len(report.names("round")) == rounds
    assert not report.names("left dense")
