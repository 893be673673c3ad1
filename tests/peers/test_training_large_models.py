"""What large models are trained and shipped with: checkpointing, compilation, bfloat16, ONNX."""

import warnings

import pytest
import torch
from torch import nn

from mpnn_arch import relationalize
from mpnn_arch.rounds import MessageRound

pytestmark = pytest.mark.peers

TOKENS = torch.randint(50, (4, 12), generator=torch.Generator().manual_seed(0))
SPARSE = "ws_flex:8,4,0.2,0"
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}


@pytest.fixture
def transformers(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip(
        "transformers", reason="transformers is not installed (pip install mpnn-arch[peers])"
    )


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def relational(model, **inputs):
    """On a sparse graph, with the default backend: its trial of them is in the first step."""
    changed = relationalize(model, SPARSE, inputs=inputs)
    assert any(isinstance(part, MessageRound) for part in changed.modules())
    return changed.train()


def losses_of(run, parameters, steps):
    optimiser = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = run()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def gradients(model, run):
    model.zero_grad()
    run().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_llama_with_checkpointing_compiled_in_bfloat16(transformers):
    model = seeded(lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)))
    model = relational(model, input_ids=TOKENS).to(torch.bfloat16)
    model.gradient_checkpointing_enable()
    compiled = torch.compile(model)
    losses = losses_of(
        lambda: compiled(input_ids=TOKENS, labels=TOKENS).loss, model.parameters(), 6
    )
    assert losses[-1] < losses[0] - 0.5
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_llama_exports_to_onnx(transformers, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model = seeded(lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)))
    model = relational(model, input_ids=TOKENS).eval()

    class Logits(nn.Module):  # the cache and the named outputs are no tensors
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids=input_ids, use_cache=False).logits

    model = Logits().eval()
    path = tmp_path / "llama.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own libraries
        program = torch.onnx.export(
            model,
            kwargs={"input_ids": TOKENS},
            dynamo=True,
            verbose=False,
            dynamic_shapes={"input_ids": {0: torch.export.Dim("batch", min=1)}},
        )
    program.save(path)
    assert {node.domain for node in program.model.graph} == {""}
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    for tokens in (TOKENS, TOKENS[:3].flip(1)):
        (out,) = session.run(None, {given.name: tokens.numpy()})
        with torch.no_grad():
            expected = model(tokens)
        torch.testing.assert_close(torch.from_numpy(out), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gpt2_with_checkpointing(transformers, reentrant):
    settings = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 16}
    config = transformers.GPT2Config(
        **settings, bos_token_id=0, eos_token_id=1, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    model = relational(seeded(lambda: transformers.GPT2LMHeadModel(config)), input_ids=TOKENS)

    def run():
        return model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss

    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert model.is_gradient_checkpointing
    checkpointed = gradients(model, run)  # the first step: backends are timed inside it
    model.gradient_checkpointing_disable()
    plain = gradients(model, run)
    assert checkpointed.keys() == plain.keys() == dict(model.named_parameters()).keys()
    for name, grad in plain.items():
        torch.testing.assert_close(checkpointed[name], grad, rtol=1e-4, atol=1e-6)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    losses = losses_of(run, model.parameters(), 5)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {}), ("vit_tiny_patch16_224", {"img_size": 32, "depth": 2})],
)
def test_timm_with_checkpointing(name, options):
    timm = pytest.importorskip(
        "timm", reason="timm is not installed (pip install mpnn-arch[peers])"
    )
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = relational(seeded(lambda: timm.create_model(name, num_classes=8, **options)), x=x)
    target = torch.arange(4)

    def run():
        return torch.nn.functional.cross_entropy(model(x), target)

    model.set_grad_checkpointing(True)
    checkpointed = gradients(model, run)
    model.set_grad_checkpointing(False)
    for name, grad in gradients(model, run).items():
        scale = grad.abs().max().item()
        torch.testing.assert_close(checkpointed[name], grad, rtol=1e-3, atol=1e-4 * scale + 1e-7)
    model.set_grad_checkpointing(True)
    losses = losses_of(run, model.parameters(), 4)
    assert losses[-1] < losses[0]
