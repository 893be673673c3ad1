"""Files written by 0.1.0 load, and their models give the same outputs as in 0.1.0.

The folder next to this file was written by 0.1.0: a small model of every kind, with parameters and
running statistics that differ from their initial values, and in ``outputs.safetensors`` an input
and the output of each.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mpnn_arch
from mpnn_arch import models

FOLDER = Path(__file__).parent / "saved_0_1_0"
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors") if path.stem != "outputs")


def test_there_is_a_file_for_every_kind() -> None:
    assert {"mlp", "resnet20", "resnet50", "efficientnet_b0", "vit", "mlp_mixer"} <= {*NAMES}
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same_outputs(name: str) -> None:
    kept = load_file(FOLDER / "outputs.safetensors")
    model = mpnn_arch.load(FOLDER / f"{name}.safetensors").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(kept[f"{name}/x"]), kept[f"{name}/y"])


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_of_0_1_0_loads_into_a_current_model(name: str) -> None:
    tensors = load_file(FOLDER / f"{name}.safetensors")
    old = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    loaded = mpnn_arch.load(FOLDER / f"{name}.safetensors")
    config = dict(loaded.config)
    model = models.build(config.pop("model"), loaded.graphs, **config | {"seed": 7})
    holder = torch.nn.ModuleDict({"part": model})  # also inside another module
    holder.load_state_dict({f"part.{name}": value for name, value in old.items()})
    for key, value in loaded.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
