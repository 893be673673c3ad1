"""Relationalized models of transformers in folders of that library's layout."""

import json

import pytest
import torch
from torch import nn

from mpnn_arch import InputError, from_pretrained, relationalize, save_pretrained
from mpnn_arch.io.tensor_file import read_tensors, write_tensors
from mpnn_arch.rounds import MessageRound

library = pytest.importorskip(
    "transformers", reason="transformers is not installed (pip install mpnn-arch[peers])"
)

pytestmark = pytest.mark.peers

TOKENS = torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(0))
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
    "max_position_embeddings": 16,
}
GRAPHS = "relational_graphs.safetensors"
RULE = {"*.self_attn.*": "ws_flex:8,4,0.2,0", "*.mlp.*": "ring:4"}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def llama(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return library.LlamaForCausalLM(library.LlamaConfig(**LLAMA | options)).eval()


def relational(model, rule=None):
    return relationalize(
        model, rule or RULE, order="published", backend="masked", inputs={"input_ids": TOKENS}
    )


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


@pytest.fixture(scope="module")
def model():
    return relational(llama())


@pytest.fixture
def folder(model, tmp_path):
    save_pretrained(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("given", ["class", "config", "module", "function"])
def test_there_and_back(model, folder, given):
    state = torch.random.get_rng_state()
    config = library.LlamaConfig(**LLAMA) if given == "config" else None
    into = {"module": llama(), "function": llama}.get(given, library.LlamaForCausalLM)
    loaded = from_pretrained(folder, into, config=config)
    assert torch.equal(state, torch.random.get_rng_state()) or given == "function"
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training
    rounds = [m.graph for m in loaded.modules() if isinstance(m, MessageRound)]
    assert rounds == [m.graph for m in model.modules() if isinstance(m, MessageRound)]
    assert loaded.config.to_dict()["hidden_size"] == 32
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        GRAPHS,
    }


def test_shards_in_the_layout_of_the_library(model, folder):
    save_pretrained(model, folder, max_shard_size=16_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert set(index["weight_map"].values()) == set(shards)
    assert set(index["weight_map"]) == set(model.state_dict())
    assert not (folder / "model.safetensors").exists()
    assert torch.equal(logits(from_pretrained(folder, library.LlamaForCausalLM)), logits(model))
    save_pretrained(model, folder)  # one file again
    assert not list(folder.glob("model-*"))
    assert not (folder / "model.safetensors.index.json").exists()
    assert torch.equal(logits(from_pretrained(folder, library.LlamaForCausalLM)), logits(model))


def test_tied_weights_are_written_once(tmp_path):
    config = library.GPT2Config(
        n_embd=32,
        n_layer=1,
        n_head=4,
        vocab_size=50,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng():
        model = relational(library.GPT2LMHeadModel(config).eval(), "ws_flex:8,4,0.2,0")
    save_pretrained(model, tmp_path)
    tensors, metadata = read_tensors(tmp_path / "model.safetensors", kind="mpnn_arch weights 1")
    assert metadata["format"] == "pt"
    assert ("lm_head.weight" in tensors) != ("transformer.wte.weight" in tensors)
    loaded = from_pretrained(tmp_path, library.GPT2LMHeadModel)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    assert torch.equal(logits(loaded), logits(model))


def test_dtypes_are_those_of_the_file(tmp_path):
    model = relational(llama())
    for parameter in model.parameters():  # buffers of the positions stay in float32
        parameter.data = parameter.data.to(torch.bfloat16)
    save_pretrained(model, tmp_path)
    loaded = from_pretrained(tmp_path, library.LlamaForCausalLM)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(logits(loaded), logits(model))


def test_nothing_that_a_file_names_is_used(model, folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values |= {
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        "attn_implementation": "someone/kernels",
        "_attn_implementation": "someone/kernels",
        "architectures": ["os.system"],
    }
    path.write_text(json.dumps(values))
    loaded = from_pretrained(folder, library.LlamaForCausalLM)
    assert type(loaded) is library.LlamaForCausalLM
    assert torch.equal(logits(loaded), logits(model))


def forge(folder, **entries):
    kind = "mpnn_arch relational graphs 1"
    tensors, metadata = read_tensors(folder / GRAPHS, kind=kind)
    texts = {name: json.dumps(value) for name, value in entries.items()}
    write_tensors(folder / GRAPHS, tensors, metadata | texts, kind=kind)


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def mix(folder):
    save_pretrained(relational(llama(intermediate_size=48)), folder / "other")
    (folder / "other" / "model.safetensors").replace(folder / "model.safetensors")


LLAMA_CLASS = library.LlamaForCausalLM


@pytest.mark.parametrize(
    ("spoil", "into", "message"),
    [
        (lambda f: (f / GRAPHS).unlink(), LLAMA_CLASS, "mpnn_arch.save_pretrained, not with"),
        (lambda f: (f / "model.safetensors").unlink(), LLAMA_CLASS, "there is no file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), LLAMA_CLASS, "no checksum"),
        (lambda f: (f / "config.json").unlink(), LLAMA_CLASS, "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), LLAMA_CLASS, "is of a model None"),
        (mix, LLAMA_CLASS, "is of another save"),
        (lambda f: change(f, intermediate_size=48), LLAMA_CLASS, "give the module"),
        (lambda f: change(f, vocab_size=2**31), LLAMA_CLASS, "describes .* parameters"),
        (lambda f: change(f, hidden_size="a"), LLAMA_CLASS, "is no LlamaConfig .*hidden_size"),
        (lambda f: forge(f, files={"../x.safetensors": "0"}), LLAMA_CLASS, "not the name of a"),
        (lambda f: forge(f, files=3), LLAMA_CLASS, "where names belong"),
        (lambda f: forge(f, tied={"a": "b"}), LLAMA_CLASS, "'a' is tied to 'b'"),
        (lambda f: forge(f, layers={"__class__": 0}), LLAMA_CLASS, "has no layer"),
        (lambda f: forge(f, factory="os.system"), LLAMA_CLASS, "unknown entry"),
        (lambda f: None, library.GPT2LMHeadModel, "of a model 'llama', and a GPT2Config"),
        (lambda f: None, library.AutoModelForCausalLM, "give the class itself"),
        (lambda f: None, 3, "into is a class of model"),
        (lambda f: None, lambda: 3, "into is a class of model"),
        (lambda f: None, nn.Linear(3, 3), "has no layer"),
    ],
)
def test_files_and_classes_that_do_not_fit(folder, spoil, into, message):
    spoil(folder)
    with pytest.raises(InputError, match=message):
        from_pretrained(folder, into)


def test_what_cannot_be_saved(model, tmp_path):
    with pytest.raises(InputError, match="was not relationalized"):
        save_pretrained(llama(), tmp_path)
    with pytest.raises(InputError, match="no configuration of transformers"):
        save_pretrained(relationalize(nn.Linear(8, 8), "ring:4"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        save_pretrained(model, tmp_path / "file")
    with pytest.raises(InputError, match="max_shard_size is at least 1"):
        save_pretrained(model, tmp_path, max_shard_size=0)
    with pytest.raises(InputError, match="there is no folder"):
        from_pretrained(tmp_path / "nothing", LLAMA_CLASS)
    save_pretrained(model, tmp_path / "m")
    with pytest.raises(InputError, match="takes a LlamaConfig"):
        from_pretrained(tmp_path / "m", LLAMA_CLASS, config=3)
    with pytest.raises(InputError, match="config is for a class"):
        from_pretrained(tmp_path / "m", llama, config=library.LlamaConfig(**LLAMA))
