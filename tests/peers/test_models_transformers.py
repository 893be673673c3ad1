"""Models of transformers, tiny, with random weights; nothing is downloaded."""

import pytest
import torch

from mpnn_arch import RelationalLinear, relationalize
from mpnn_arch.models.relationalize import RelationalExperts

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
        10,  # a stack of experts counts once
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


def test_experts_are_rounds(monkeypatch, refill):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = TEXT | {"num_key_value_heads": 2, "num_local_experts": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = refill(library.MixtralForCausalLM(library.MixtralConfig(**settings)))
    complete = relationalize(model, "complete:8", backend="masked")
    experts = complete.model.layers[0].mlp.experts
    assert isinstance(experts, RelationalExperts)
    assert len([m for m in experts.modules() if isinstance(m, RelationalLinear)]) == 12
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 32, generator=generator)
    index = torch.tensor([[0, 1], [1, 3], [3, 0], [0, 3], [1, 0], [3, 1], [0, 1]])  # never 2
    weights = torch.rand(7, 2, generator=generator)
    dense = model.model.layers[0].mlp.experts
    for training in (True, False):
        results = []
        for layer in (experts.train(training), dense.train(training)):
            own = x.clone().requires_grad_()
            out = layer(own, index, weights)
            out.square().sum().backward()
            results.append((out, own.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    ours = torch.cat([r.weight.grad.flatten() for r in (*experts.gate, *experts.up)])
    theirs = dense.gate_up_proj.grad.flatten()
    torch.testing.assert_close(ours.sort().values, theirs.sort().values, rtol=1e-3, atol=1e-4)

    with torch.no_grad():
        for parameter in complete.parameters():
            parameter.zero_()
    complete.load_state_dict(model.state_dict())  # dense weights, experts too
    with torch.no_grad():
        out, expected = (m.eval()(input_ids=TOKENS).logits for m in (complete, model))
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-4)


def test_experts_are_exported(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = TEXT | {"num_key_value_heads": 2, "num_local_experts": 4, "use_cache": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library.MixtralForCausalLM(library.MixtralConfig(**settings))
        sparse = relationalize(model, "ring:8").eval()
    program = torch.export.export(sparse, (), {"input_ids": TOKENS}, strict=False).module()
    for tokens in (TOKENS, TOKENS.flip(-1)):  # others choose other experts
        with torch.no_grad():
            out, expected = (m(input_ids=tokens).logits for m in (program, sparse))
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_experts_of_another_layout_stay_and_say_why(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = TEXT | {"num_key_value_heads": 2, "num_local_experts": 4, "head_dim": 8}
    with torch.random.fork_rng():
        model = library.GptOssForCausalLM(library.GptOssConfig(**settings))
    report = relationalize(model, "complete:8", backend="masked").relationalize_report
    (reason,) = {layer.reason for layer in report.layers if layer.kind == "GptOssExperts"}
    assert reason.startswith("a stack of matrices, one an expert")
