"""Two processes on one batch train what one process trains on it."""

import contextlib
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mpnn_arch import InputError, graphs, models
from mpnn_arch.training import TrainingConfig, load_dataset
from mpnn_arch.training.checkpoint import load_checkpoint
from mpnn_arch.training.distributed import DistributedTrainer
from mpnn_arch.training.global_batch_norm import over_processes
from mpnn_arch.training.processes import Processes
from mpnn_arch.training.share import Share

HERE = Path(__file__).parent


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ranks = _load(HERE / "ranks.py")
launch = _load(HERE.parent / "launch.py")

TWO = [
    "float64", "float32", "augmented", "smoothed", "clipped", "reestimated", "bfloat16",
    "channels_last", "fused", "float64-fsdp2", "clipped-fsdp2", "fused-fsdp2", "float64-resumed",
    "float64-fsdp2-resumed", "auto-resumed", "compiled",
]  # fmt: skip
THREE = ["float64", "float32", "float32-resumed"]
METRICS = ("train_loss", "train_error", "test_loss", "test_error")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two and three processes trained, by number and case."""
    results = {}
    for count, cases in ((2, TWO), (3, THREE)):
        folder = tmp_path_factory.mktemp(f"of{count}")
        codes, outputs = launch.run(count, HERE / "ranks.py", folder, *cases)
        assert codes == [0] * count, "\n".join(outputs)
        results[count] = {case: torch.load(folder / f"{case}.pt") for case in cases}
        results[count]["folder"] = folder
    return results


@pytest.fixture(scope="module")
def solo():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    known = {}

    def train(case):
        if case not in known:
            known[case] = ranks.train(case)
        return known[case]

    yield train
    torch.set_num_threads(threads)


def check_close(got, wanted, *, relative, absolute):
    """Weights and metrics to a tolerance; `absolute` in units of a tensor's largest number."""
    assert got["weights"].keys() == wanted["weights"].keys()
    for name, value in wanted["weights"].items():
        scale = float(value.double().abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(
            got["weights"][name].double(), value.double(), rtol=relative, atol=absolute * scale
        )
    for one, other in zip(got["metrics"], wanted["metrics"], strict=True):
        assert one["learning_rate"] == other["learning_rate"]
        assert one["train_error"] == pytest.approx(other["train_error"], abs=1e-9)
        assert one["test_error"] == pytest.approx(other["test_error"], abs=1e-9)
        for name in ("train_loss", "test_loss"):
            assert one[name] == pytest.approx(other[name], rel=max(relative, absolute))


# Ten steps. Each rounds to 1e-16, and BatchNorm over three images magnifies that a thousandfold.
DOUBLE = {"relative": 1e-11, "absolute": 1e-11}


@pytest.mark.parametrize(
    "case", ["float64", "augmented", "smoothed", "clipped", "reestimated", "channels_last"]
)
def test_two_processes_equal_one_to_rounding(found, solo, case):
    check_close(found[2][case], solo(case), **DOUBLE)


def test_fused_and_three_processes_with_an_empty_share_too(found, solo):
    check_close(found[2]["fused"], solo("fused"), **DOUBLE)
    check_close(found[3]["float64"], solo("float64"), **DOUBLE)


@pytest.mark.parametrize("case", ["float64", "clipped", "fused"])
def test_sharded_parameters_equal_whole_ones_to_rounding(found, solo, case):
    check_close(found[2][f"{case}-fsdp2"], solo(case), **DOUBLE)


def test_in_single_precision_to_the_training_noise_of_ten_steps(found, solo):
    """The tolerance of float64 times the ratio of the two types' roundings, 5e8, is 5e-3."""
    for processes in (2, 3):
        got, wanted = found[processes]["float32"], solo("float32")
        for name, value in wanted["weights"].items():
            scale = float(value.float().abs().max())
            torch.testing.assert_close(got["weights"][name], value, rtol=5e-3, atol=5e-3 * scale)
        for one, other in zip(got["metrics"], wanted["metrics"], strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], rel=5e-3)


@pytest.mark.parametrize("case", ["bfloat16", "compiled"])
def test_the_first_epoch_of_mixed_precision_and_of_a_compiled_network(found, solo, case):
    """In bfloat16 a number has eight bits, and later epochs drift apart."""
    plain = solo("float32" if case == "compiled" else case)
    got, wanted = found[2][case]["metrics"][0], plain["metrics"][0]
    assert got["train_loss"] == pytest.approx(wanted["train_loss"], rel=2**-8)


@pytest.mark.parametrize(
    ("processes", "case"),
    [(2, "float64"), (2, "float64-fsdp2"), (3, "float32")],
)
def test_a_resumed_training_has_the_same_bits(found, processes, case):
    whole, resumed = found[processes][case], found[processes][f"{case}-resumed"]
    assert all(torch.equal(whole["weights"][k], resumed["weights"][k]) for k in whole["weights"])
    for one, other in zip(whole["metrics"], resumed["metrics"], strict=True):
        assert [one[name] for name in METRICS] == [other[name] for name in METRICS]


def test_backends_are_those_of_rank_0_after_a_resumption(found):
    assert len(found[2]["auto-resumed"]["metrics"]) == ranks.EPOCHS


def test_another_number_of_processes_does_not_go_on(found):
    path = found[2]["folder"] / "float64-fsdp2.safetensors"
    with pytest.raises(InputError, match=r"written by 2 processes \(fsdp2\), .* of 1 process"):
        load_checkpoint(ranks.make_trainer("float64"), path, "test")


def test_shares_of_a_batch_are_disjoint_and_in_order():
    for batch in (0, 1, 2, 5, 12):
        for count in (1, 2, 3, 7):
            places = [list(range(batch))[Share(rank, count).of(batch)] for rank in range(count)]
            assert [place for part in places for place in part] == list(range(batch))
            sizes = [len(part) for part in places]
            assert max(sizes) - min(sizes) <= 1


def test_a_group_that_is_half_described_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Processes.from_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="start several processes with torchrun"):
        Processes.from_environment()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
def test_batch_norm_over_one_process_is_batch_norm(momentum, affine, tracked, tmp_path):
    options = {"momentum": momentum, "affine": affine, "track_running_stats": tracked}
    with alone_in_a_group(tmp_path):
        plain = nn.BatchNorm2d(5, **options).double()
        ours = over_processes(
            nn.Sequential(nn.BatchNorm2d(5, **options)).double(), torch.device("cpu")
        )
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            x = torch.randn(7, 5, 3, 2, generator=generator, dtype=torch.float64) * 3 + 100
            inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
            outputs = [plain(inputs[0]), ours(inputs[1])]
            torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
            for output in outputs:
                output.pow(3).sum().backward()
            torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-7, atol=1e-9)
        expected = plain.state_dict()
        assert ours.state_dict().keys() == {f"0.{name}" for name in expected}
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, expected[name[2:]], rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_pruned_network_is_trained_and_stays_pruned(parallel, tmp_path):
    data = load_dataset("digits").subset(100, 50)
    model = models.build("mlp", graphs.ring(8, 2), in_features=64, hidden_features=32)
    prune.l1_unstructured(model.rounds[0].message_function, "weight", 0.5)
    with alone_in_a_group(tmp_path):
        trainer = DistributedTrainer(
            model,
            data,
            TrainingConfig(epochs=1, batch_size=50),
            generator=torch.Generator().manual_seed(0),
            processes=Processes(0, 1, 0),
            parallel=parallel,
        )
        trainer.train_epoch()
        trained = trainer.trained_model()
    with torch.no_grad():
        trained(data.test_images)  # masks the weight that was trained
    weight = trained.rounds[0].weight
    assert int((weight == 0).sum()) == round(0.5 * weight.numel())


@contextlib.contextmanager
def alone_in_a_group(folder):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
