"""Models of timm, with random weights and small images."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

timm = pytest.importorskip("timm", reason="timm is not installed (pip install mpnn-arch[peers])")

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    ("name", "options", "rounds"),
    [
        ("resnet18", {}, 19),
        ("convnext_atto", {}, 27),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 3}, 12),
        ("mobilenetv3_small_100", {}, 30),
        ("efficientnet_b0", {}, 40),
    ],
)
def test_a_model(name, options, rounds, check_model, refill):
    with torch.random.fork_rng():
        # A gain that keeps the signal of these alive through depth-wise convs and gates.
        gain = 2.5 if "net" in name and not name.startswith(("res", "conv")) else 1.0
        model = refill(timm.create_model(name, num_classes=16, **options), gain)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    report = check_model(model, {"x": x})
    assert len(report.names("round")) >= rounds
