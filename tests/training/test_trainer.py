import copy
import dataclasses
import functools
import math
import os
import stat

import pytest
import torch
from torch import nn

from mpnn_arch import InputError
from mpnn_arch.training.checkpoint import (
    delete_checkpoint,
    has_checkpoint,
    load_checkpoint,
    previous_checkpoint,
    save_checkpoint,
)
from mpnn_arch.training.config import TrainingConfig
from mpnn_arch.training.data import ImageDataset, load_dataset
from mpnn_arch.training.trainer import Trainer


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits").subset(400, 100)


def network(seed=0, num_classes=10):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(32, num_classes),
        )


def trainer(dataset, *, seed=0, **values):
    config = TrainingConfig(**{"epochs": 4, "batch_size": 64} | values)
    return Trainer(network(seed), dataset, config, generator=torch.Generator().manual_seed(seed))


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def untimed(metrics):
    return dataclasses.replace(metrics, seconds=0.0)


def test_it_learns(digits):
    run = trainer(digits)
    before = run.evaluate()[1]
    history = [run.train_epoch() for _ in range(4)]
    assert run.finished
    assert [m.epoch for m in history] == [1, 2, 3, 4]
    assert before > 60
    assert history[-1].test_error < 15
    assert history[-1].train_loss < history[0].train_loss / 2
    assert all(m.seconds > 0 for m in history)


@pytest.mark.parametrize("values", [{}, {"flip": True, "batch_norm_images": 64}])
def test_epochs_that_are_not_evaluated_train_to_the_same_bits(digits, values):
    always, seldom = trainer(digits, **values), trainer(digits, **values, evaluate_every=3)
    for epoch in (1, 2, 3, 4):
        expected, got = always.train_epoch(), seldom.train_epoch()
        if epoch in (1, 2):
            assert math.isnan(got.test_loss)
            assert math.isnan(got.test_error)
            got = dataclasses.replace(
                got, test_loss=expected.test_loss, test_error=expected.test_error
            )
        assert untimed(got) == untimed(expected)  # the third, and always the last
    assert same(always.model, seldom.model)


def test_it_takes_the_steps_of_torch_sgd_with_the_stated_recipe(digits):
    run = trainer(digits, epochs=2, batch_size=400, weight_decay=0.01)
    expected = copy.deepcopy(run.model)
    expected[4].p = run.model[4].p = 0.0
    optimizer = torch.optim.SGD(
        expected.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    )
    for rate in (0.1, 0.05):  # a half cosine over two steps
        optimizer.param_groups[0]["lr"] = rate
        expected.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(expected(digits.train_images), digits.train_labels).backward()
        optimizer.step()
        assert run.train_epoch().learning_rate == pytest.approx(rate)
    for mine, theirs in zip(run.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_same_seed_same_bits_and_the_global_random_state_is_unchanged(digits):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = trainer(digits), trainer(digits), trainer(digits, seed=1)
    assert untimed(first.train_epoch()) == untimed(second.train_epoch())
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)  # other draws of the program do not matter
    assert untimed(first.train_epoch()) == untimed(second.train_epoch())
    assert same(first.model, second.model)
    other.train_epoch()
    assert not same(first.model, other.model)


@pytest.mark.parametrize("values", [{}, {"flip": True, "crop_padding": 1, "batch_norm_images": 64}])
def test_torchs_default_device_changes_nothing(digits, values):
    there = trainer(digits, **values)
    expected = [dataclasses.replace(epoch, seconds=0) for epoch in (there.train_epoch(),)]
    with torch.device("meta"):  # no value survives on it
        data = load_dataset("digits").subset(400, 100)
    here = trainer(data, **values)
    with torch.device("meta"):
        found = [dataclasses.replace(epoch, seconds=0) for epoch in (here.train_epoch(),)]
    assert found == expected
    assert same(here.model, there.model)


def test_every_field_of_the_recipe_changes_the_step_as_torch_would(digits):
    run = trainer(
        digits, epochs=2, batch_size=400, label_smoothing=0.2, clip_gradient_norm=0.3,
        schedule="cosine_by_epoch", optimizer="foreach",
    )  # fmt: skip
    run.model[4].p = 0.0
    plain = copy.deepcopy(run.model)
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    for rate in (0.1, 0.05):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        plain.train()
        logits = plain(digits.train_images)
        spread = torch.full((400, 10), 0.02).scatter(1, digits.train_labels[:, None], 0.82)
        loss = -(spread * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in plain.parameters()]).norm()
        assert norm > 0.3
        for p in plain.parameters():
            p.grad *= 0.3 / norm
        optimizer.step()
        metrics = run.train_epoch()
        assert metrics.train_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for mine, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_optimizers_switches_take_the_same_steps(digits):
    loop, foreach, fused = (trainer(digits, optimizer=o) for o in ("loop", "foreach", "fused"))
    for run in (loop, foreach, fused):
        run.train_epoch()
    assert same(loop.model, foreach.model)
    for a, b in zip(loop.model.parameters(), fused.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def convolutions(dataset, **values):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(),
            nn.Linear(128, 10),
        )  # fmt: skip
    config = TrainingConfig(epochs=2, batch_size=64, **values)
    return Trainer(model, dataset, config, generator=torch.Generator().manual_seed(0))


def test_channels_last_changes_the_layout_alone(digits):
    plain, other = convolutions(digits), convolutions(digits, channels_last=True)
    strides = []
    other.model[3].register_forward_hook(lambda _, args, out: strides.append(args[0].stride(1)))
    for _ in range(2):
        wanted, found = plain.train_epoch(), other.train_epoch()
    assert set(strides) == {1}
    assert found.train_loss == pytest.approx(wanted.train_loss, rel=1e-3)


def test_products_in_bfloat16_train_float32_parameters(digits):
    plain, other = convolutions(digits), convolutions(digits, precision="bfloat16")
    kinds = []
    other.model[3].register_forward_hook(lambda _, args, out: kinds.append(out.dtype))
    wanted = [plain.train_epoch() for _ in range(2)]
    found = [other.train_epoch() for _ in range(2)]
    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in other.model.parameters()} == {torch.float32}
    assert found[0].train_loss != wanted[0].train_loss
    assert found[1].train_loss == pytest.approx(wanted[1].train_loss, rel=0.05)


def test_a_compiled_network_trains_alike(digits, tmp_path, monkeypatch):
    # Traced and differentiated as ever, but no C++ is generated.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain, other = convolutions(digits), convolutions(digits, compile=True)
    wanted, found = plain.train_epoch(), other.train_epoch()
    assert found.train_loss == pytest.approx(wanted.train_loss, rel=1e-3)
    # Its checkpoint is that of the network itself.
    save_checkpoint(other, tmp_path / "run.safetensors", "run")
    load_checkpoint(plain, tmp_path / "run.safetensors", "run")
    assert same(plain.model, other.model)


@pytest.mark.parametrize("stop", [1, 3])
def test_an_augmented_run_continues_to_the_same_bits(digits, tmp_path, stop):
    values = {"flip": True, "crop_padding": 1, "batch_norm_images": 100, "optimizer": "fused"}
    whole, first, second = (trainer(digits, seed=s, **values) for s in (0, 0, 9))
    history = [whole.train_epoch() for _ in range(4)]
    for _ in range(stop):
        first.train_epoch()
    save_checkpoint(first, tmp_path / "stopped.safetensors", "run")
    load_checkpoint(second, tmp_path / "stopped.safetensors", "run")
    rest = [second.train_epoch() for _ in range(4 - stop)]
    assert [untimed(m) for m in rest] == [untimed(m) for m in history[stop:]]
    assert same(whole.model, second.model)


@pytest.mark.parametrize(("images", "steps"), [(128, 2), (130, 3), (129, 2), (64, 1), (2, 1)])
def test_a_smaller_last_batch_is_kept_and_a_single_image_left_out(images, steps):
    data = ImageDataset(
        name="made up",
        train_images=torch.randn(images, 1, 8, 8),
        train_labels=torch.arange(images) % 2,
        test_images=torch.randn(4, 1, 8, 8),
        test_labels=torch.arange(4) % 2,
        num_classes=2,
    )
    config = TrainingConfig(epochs=1, batch_size=64)
    run = Trainer(network(num_classes=2), data, config, generator=torch.Generator())
    sizes = []
    run.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    run.train_epoch()
    sizes = sizes[:-1]  # the last is the evaluation
    assert run.steps_per_epoch == len(sizes) == steps
    assert sum(sizes) == images - (images % 64 == 1)


@pytest.mark.parametrize("model", [nn.Flatten(), network().requires_grad_(False)])
def test_a_model_without_parameters_to_train_is_refused(digits, model):
    with pytest.raises(InputError, match=r"has no parameter to train; .* requires_grad_\(True\)"):
        Trainer(model, digits, TrainingConfig(), generator=torch.Generator())


def test_outputs_that_are_not_the_classes_are_refused(digits):
    with pytest.raises(InputError, match="num_classes=10"):
        Trainer(network(num_classes=7), digits, TrainingConfig(), generator=torch.Generator())


def test_a_diverging_loss_is_reported(digits):
    run = trainer(digits, learning_rate=1e30)
    with pytest.raises(InputError, match="lower the learning rate"):
        [run.train_epoch() for _ in range(4)]


# -- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_gives_the_same_bits(digits, tmp_path, stop):
    whole = trainer(digits)
    history = [whole.train_epoch() for _ in range(4)]
    path = tmp_path / "stopped.safetensors"

    first = trainer(digits)
    for _ in range(stop):
        first.train_epoch()
    save_checkpoint(first, path, "run")
    second = trainer(digits, seed=9)  # its whole state is overwritten
    load_checkpoint(second, path, "run")
    assert second.epoch == stop
    rest = [second.train_epoch() for _ in range(4 - stop)]
    assert [untimed(m) for m in rest] == [untimed(m) for m in history[stop:]]
    assert same(whole.model, second.model)


@pytest.fixture
def stopped(digits, tmp_path):
    run = trainer(digits)
    run.train_epoch()
    path = tmp_path / "stopped.safetensors"
    save_checkpoint(run, path, "run A")
    return run, path


def changed_bit(data):
    return data[:-5000] + bytes([data[-5000] ^ 1]) + data[-4999:]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-100], "cut short"),
        (lambda data: b"", "cut short"),
        (changed_bit, "was changed"),
    ],
)
def test_a_truncated_or_changed_checkpoint_is_refused(stopped, spoil, words):
    run, path = stopped
    before = copy.deepcopy(run.model)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(run, path, "run A")
    assert "delete it" in str(error.value)
    assert same(before, run.model)


def test_two_generations_are_kept_and_a_damaged_one_falls_back(stopped):
    run, path = stopped
    first = path.read_bytes()
    for _ in (2, 3):
        before = path.read_bytes()
        run.train_epoch()
        save_checkpoint(run, path, "run A")
        assert previous_checkpoint(path).read_bytes() == before
        assert len(list(path.parent.iterdir())) == 2
    assert first not in (path.read_bytes(), previous_checkpoint(path).read_bytes())
    wanted = trainer(run.dataset)
    for _ in range(4):
        wanted.train_epoch()

    path.write_bytes(path.read_bytes()[:-100])
    back = trainer(run.dataset, seed=9)
    with pytest.warns(UserWarning, match=r"cut short .* before it, after epoch 2"):
        load_checkpoint(back, path, "run A")
    assert back.epoch == 2
    assert not previous_checkpoint(path).exists()  # it has taken the damaged one's place
    back.train_epoch()
    save_checkpoint(back, path, "run A")
    back.train_epoch()
    assert same(back.model, wanted.model)

    for file in (path, previous_checkpoint(path)):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=f"delete {path.name} and {path.stem}.previous"):
        load_checkpoint(back, path, "run A")
    delete_checkpoint(path)
    assert not has_checkpoint(path)


def test_a_missing_newest_checkpoint_is_the_one_before(stopped):
    run, path = stopped
    path.rename(previous_checkpoint(path))
    assert has_checkpoint(path)
    with pytest.warns(UserWarning, match="after epoch 1"):
        load_checkpoint(run, path, "run A")
    assert path.exists()


def test_a_checkpoint_reaches_the_disk_before_its_name_does(stopped, monkeypatch):
    run, path = stopped
    events = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle):
        events.append(("fsync", stat.S_ISDIR(os.fstat(handle).st_mode)))
        real_fsync(handle)

    def replace(source, target):
        events.append(("rename", os.path.basename(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    save_checkpoint(run, path, "run A")
    assert events == [
        ("fsync", False),
        ("rename", previous_checkpoint(path).name),
        ("rename", path.name),
        ("fsync", True),
    ]


def test_a_checkpoint_of_another_run_and_other_files_are_refused(stopped, tmp_path):
    run, path = stopped
    with pytest.raises(InputError, match=r"another run .*run A"):
        load_checkpoint(run, path, "run B")
    from safetensors.torch import save_file

    save_file({"model/x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not mpnn_arch checkpoint"):
        load_checkpoint(run, tmp_path / "other.safetensors", "run A")
    with pytest.raises(InputError, match="there is no file"):
        load_checkpoint(run, tmp_path / "nothing.safetensors", "run A")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(stopped, monkeypatch):
    run, path = stopped
    before = path.read_bytes()
    run.train_epoch()

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("mpnn_arch.io.tensor_file.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, path, "run A")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_learns_and_continues_on_a_gpu(digits, tmp_path):
    config = TrainingConfig(epochs=2, batch_size=64)

    def make():
        generator = torch.Generator().manual_seed(0)
        return Trainer(network(), digits, config, generator=generator, device="cuda")

    first, second = make(), make()
    losses = [first.train_epoch().train_loss]
    save_checkpoint(first, tmp_path / "gpu.safetensors", "run")
    load_checkpoint(second, tmp_path / "gpu.safetensors", "run")
    losses += [first.train_epoch().train_loss, second.train_epoch().train_loss]
    assert losses[1] < losses[0]
    assert losses[2] == pytest.approx(losses[1], rel=1e-3)


def test_a_model_that_returns_no_tensor_is_refused(digits):
    class Pair(nn.Linear):
        def forward(self, images):
            return super().forward(images.flatten(1)), None

    with pytest.raises(InputError, match=r"returns a tuple; return a tensor of shape \(64, 10\)"):
        Trainer(
            Pair(64, 10),
            digits,
            TrainingConfig(epochs=1, batch_size=64),
            generator=torch.Generator(),
        )
