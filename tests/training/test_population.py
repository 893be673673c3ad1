"""A population against its members trained alone."""

import copy
import dataclasses
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch_geometric.nn import MaxAggregation

from mpnn_arch import InputError, graphs, models
from mpnn_arch.training import Population, Trainer, TrainingConfig, train_population
from mpnn_arch.training.checkpoint import load_checkpoint, save_checkpoint
from mpnn_arch.training.data import load_dataset
from mpnn_arch.training.population_size import choose_population_size, time_sizes
from mpnn_arch.training.union import MLPUnion

# Ragged shares, other numbers of nodes, the complete graph, and the dense model.
SPECS = ["ws_flex:16,4,0.2,0", "ring:16", "complete:16", "ws_flex:8,3,0.2,0", None]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits").subset(400, 100)


@pytest.fixture(scope="module")
def doubles(digits):
    return dataclasses.replace(
        digits, train_images=digits.train_images.double(), test_images=digits.test_images.double()
    )


def mlp(spec, seed=3, **values):
    graph = graphs.parse(spec)[0] if spec else None
    values = {"in_features": 64, "hidden_features": 40, "dtype": torch.float64} | values
    return models.mlp(graph, seed=seed, **values)


def mlps(specs=SPECS, **values):
    return [mlp(spec, seed, **values) for seed, spec in enumerate(specs)]


def pruned(member):
    prune.l1_unstructured(member.rounds[0].message_function, "weight", 0.5)
    return member


def changed(member, name, part):
    setattr(member.rounds[0], name, part)
    return member


def spectral(member):
    parametrizations.spectral_norm(member.head)
    return member


def alone(member, dataset, config, seed=7):
    trainer = Trainer(member, dataset, config, generator=torch.Generator().manual_seed(seed))
    return [trainer.train_epoch() for _ in range(config.epochs)]


def untimed(metrics):
    return [dataclasses.replace(m, seconds=0.0) for m in metrics]


def largest_difference(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optimizer": "fused"},
        {"label_smoothing": 0.1, "clip_gradient_norm": 0.5, "flip": True, "crop_padding": 1},
        {"momentum": 0.0, "nesterov": False, "batch_norm_images": 50},
    ],
)
def test_every_member_equals_its_training_alone(doubles, values):
    config = TrainingConfig(epochs=13, batch_size=96, **values)  # 65 steps
    members, single = mlps(), mlps()
    start = [copy.deepcopy(member) for member in members]
    results = train_population(members, doubles, config, seed=7, size=len(members))
    for member, own, before, result in zip(members, single, start, results, strict=True):
        history = alone(own, doubles, config)
        assert largest_difference(member, own) < 1e-9
        assert largest_difference(member, before) > 1e-3
        assert (result.population, result.diverged) == (len(SPECS), None)
        for mine, theirs in zip(result.metrics, history, strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, abs=1e-9)
            assert mine.test_loss == pytest.approx(theirs.test_loss, abs=1e-9)
            assert (mine.epoch, mine.learning_rate) == (theirs.epoch, theirs.learning_rate)
            assert (mine.train_error, mine.test_error) == (theirs.train_error, theirs.test_error)


def test_float32_members_equal_their_training_alone_but_for_rounding(digits):
    config = TrainingConfig(epochs=2, batch_size=100)
    members, single = (mlps(dtype=torch.float32) for _ in range(2))
    results = train_population(members, digits, config, seed=7, size=len(members))
    for own, result in zip(single, results, strict=True):
        history = alone(own, digits, config)
        assert result.metrics[-1].train_loss == pytest.approx(history[-1].train_loss, rel=1e-3)


def test_epochs_that_are_not_evaluated_change_no_bit(doubles):
    always, seldom = (
        train_population(mlps(), doubles, config, seed=7, size=len(SPECS))
        for config in (TrainingConfig(epochs=3), TrainingConfig(epochs=3, evaluate_every=2))
    )
    for one, other in zip(always, seldom, strict=True):
        assert [math.isnan(epoch.test_error) for epoch in other.metrics] == [True, False, False]
        assert untimed(one.metrics[1:]) == untimed(other.metrics[1:])
        assert one.metrics[0].train_loss == other.metrics[0].train_loss


def test_a_compiled_population_trains_alike(digits, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    config = TrainingConfig(epochs=2, batch_size=100)
    members, single = (mlps(SPECS[:3], dtype=torch.float32) for _ in range(2))
    compiled = dataclasses.replace(config, compile=True)
    results = train_population(members, digits, compiled, seed=7, size=3)
    for own, result in zip(single, results, strict=True):
        history = alone(own, digits, config)
        assert result.metrics[-1].train_loss == pytest.approx(history[-1].train_loss, rel=1e-3)


def test_members_in_bfloat16_equal_their_training_alone_but_for_rounding(digits):
    config = TrainingConfig(epochs=2, batch_size=100, precision="bfloat16")
    members, single = (mlps(SPECS[:3], dtype=torch.float32) for _ in range(2))
    results = train_population(members, digits, config, seed=7, size=3)
    for own, result in zip(single, results, strict=True):
        assert result.metrics[-1].train_loss == pytest.approx(
            alone(own, digits, config)[-1].train_loss, rel=0.05
        )


def test_a_union_is_its_members_and_keeps_their_weights_in_one_place():
    members = mlps()
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for member in members:
        member.eval()
    wanted = torch.stack([member(x) for member in members], dim=1)
    union = MLPUnion(members).eval()
    torch.testing.assert_close(union(x), wanted)
    assert torch.equal(members[1].head.weight.flatten(), union.head[union.slices["head"][1]])
    with torch.no_grad():
        union.rounds[0].zero_()
    assert not members[0].rounds[0].weight.any()
    assert sum(p.numel() for p in union.parameters()) == sum(
        p.numel() for member in members for p in member.parameters()
    )


def broken(member):
    """A member whose loss is not finite from its first step on."""
    with torch.no_grad():
        member.head.weight[0].fill_(torch.inf)
    return member


@pytest.mark.parametrize("values", [{}, {"clip_gradient_norm": 1.0}])
def test_a_member_that_diverges_is_frozen_and_the_others_go_on(doubles, values):
    config = TrainingConfig(epochs=4, batch_size=96, **values)
    members = mlps()
    broken(members[1])
    results = train_population(members, doubles, config, seed=7, size=len(members))
    assert "lower the learning rate" in results[1].diverged
    assert "epoch 1" in results[1].diverged
    assert results[1].metrics == ()
    for place, (member, own) in enumerate(zip(members, mlps(), strict=True)):
        if place != 1:
            assert results[place].diverged is None
            assert len(results[place].metrics) == 4
            alone(own, doubles, config)
            assert largest_difference(member, own) < 1e-9


def test_a_population_of_which_none_is_left_ends(doubles):
    members = [broken(mlp(spec)) for spec in SPECS[:2]]
    results = train_population(members, doubles, TrainingConfig(epochs=3), size=2)
    assert all(result.diverged and not result.metrics for result in results)


def test_members_are_trained_in_groups_and_alone_to_the_same_bits(digits):
    config = TrainingConfig(epochs=2, batch_size=100)
    values = {"dtype": torch.float32, "backend": "cpu"}
    members, single = mlps(SPECS[:3], **values), mlps(SPECS[:3], **values)
    seen = []
    results = train_population(
        members,
        digits,
        config,
        seed=7,
        size=2,
        watch=lambda place, m: seen.append((place, m.epoch)),
    )
    assert [result.population for result in results] == [2, 2, 1]
    assert seen == [(0, 1), (1, 1), (0, 2), (1, 2), (2, 1), (2, 2)]
    assert untimed(results[2].metrics) == untimed(alone(single[2], digits, config))
    assert largest_difference(members[2], single[2]) == 0
    # Members do not hold on to the others' memory.
    storage = members[0].head.weight.untyped_storage()
    assert storage.nbytes() == members[0].head.weight.nbytes


def population(dataset, config, seed=7):
    members = mlps()
    broken(members[3])
    generator = torch.Generator().manual_seed(seed)
    return Population(members, dataset, config, generator=generator)


def test_a_stopped_population_goes_on_to_the_same_bits(doubles, tmp_path):
    config = TrainingConfig(epochs=4, batch_size=96)
    whole = population(doubles, config)
    history = [whole.train_epoch() for _ in range(4)]
    first = population(doubles, config)
    for _ in range(2):
        first.train_epoch()
    save_checkpoint(first, tmp_path / "stopped.safetensors", "these five")
    second = population(doubles, config, seed=99)
    load_checkpoint(second, tmp_path / "stopped.safetensors", "these five")
    assert (second.epoch, second.active) == (2, [0, 1, 2, 4])
    assert second.diverged == whole.diverged
    second.train_epoch()
    load_checkpoint(second, tmp_path / "stopped.safetensors", "these five")  # and once more
    for epoch in (2, 3):
        metrics = second.train_epoch()
        assert list(metrics) == [0, 1, 2, 4]
        assert untimed(metrics.values()) == untimed(history[epoch].values())
    for place in second.active:
        assert largest_difference(second.members[place], whole.members[place]) == 0


def test_a_checkpoint_of_one_network_and_of_a_population_are_not_confused(doubles, tmp_path):
    config = TrainingConfig(epochs=1, batch_size=96)
    one = Trainer(mlp("ring:16"), doubles, config, generator=torch.Generator())
    several = population(doubles, config)
    save_checkpoint(one, tmp_path / "one.safetensors", "")
    save_checkpoint(several, tmp_path / "several.safetensors", "")
    with pytest.raises(InputError, match="single network"):
        load_checkpoint(several, tmp_path / "one.safetensors", "")
    with pytest.raises(InputError, match="population of networks"):
        load_checkpoint(one, tmp_path / "several.safetensors", "")


def test_a_population_draws_from_its_own_generator_alone(doubles):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    train_population(mlps(), doubles, TrainingConfig(epochs=1), size="auto")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [], "none was given"),
        (lambda: [mlp("ring:16")] * 2, "twice"),
        (lambda: [nn.Linear(64, 10)], "not of Linear"),
        (lambda: [mlp("ring:16", aggr="max")], r"not MaxAggregation\(\) of LinearMessage"),
        (lambda: [mlp("ring:16", message="gated")], r"not SumAggregation\(\) of Gated"),
        (lambda: [changed(mlp("ring:16"), "aggr_module", MaxAggregation())], "not MaxAggregation"),
        (lambda: [changed(mlp("ring:16"), "activation", nn.GELU())], r"ReLU, not.*GELU\("),
        (lambda: [changed(mlp("ring:16"), "norm", nn.Identity())], "not with Identity"),
        (lambda: [mlp("ring:16"), pruned(mlp("ring:16"))], "pruned or parametrised"),
        (lambda: [mlp("ring:16"), spectral(mlp("ring:16"))], "pruned or parametrised"),
        (lambda: [mlp("ring:16"), mlp("ring:16", in_features=65)], "input features 64 and 65"),
        (lambda: [mlp("ring:16"), mlp("ring:16", num_rounds=2)], "rounds 2 and 3"),
        (lambda: [mlp("ring:16"), mlp("ring:16", dtype=torch.float32)], "float32"),
    ],
)
def test_networks_that_are_no_population_are_refused(doubles, make, words):
    with pytest.raises(InputError, match=words) as error:
        Population(make(), doubles, TrainingConfig(), generator=torch.Generator())
    assert "\n" not in str(error.value)


def test_a_size_that_is_none_is_refused(doubles):
    for size in (0, True, 1.5, "all"):
        with pytest.raises(InputError, match="at least 1 member"):
            train_population(mlps(), doubles, TrainingConfig(), size=size)


# -- how many side by side ---------------------------------------------------------------------


def test_auto_takes_the_quickest_size_that_is_worth_it(doubles, monkeypatch):
    from mpnn_arch.training import population_size

    def choose(seconds, free=None):
        monkeypatch.setattr(population_size, "free_memory", lambda device: free)
        monkeypatch.setattr(
            population_size,
            "time_sizes",
            lambda members, dataset, config, sizes, device: {s: seconds[s] for s in sizes},
        )
        return choose_population_size(mlps(), doubles, TrainingConfig()).size

    assert choose({1: 1.0, 2: 0.8, 4: 0.6}) == 4
    assert choose({1: 1.0, 2: 0.7, 4: 0.8}) == 2
    assert choose({1: 1.0, 2: 0.98, 4: 0.97}) == 1
    assert choose({1: 1.0, 2: 1.5, 4: 2.0}) == 1
    members = mlps()
    needed = max(population_size._bytes(m, 128) for m in members)
    assert (
        choose({1: 1.0, 2: 0.8, 4: 0.6}, free=10 * needed) == 2
    )  # two copies of two fit half of it
    assert choose({1: 1.0}, free=6 * needed) == 1


@pytest.mark.parametrize("change", [pruned, lambda member: mlp("ring:16", message="gated")])
def test_auto_trains_alone_what_no_population_takes(doubles, change):
    members, single = ([change(mlp("ring:16", seed)) for seed in range(2)] for _ in range(2))
    config = TrainingConfig(epochs=1, batch_size=96)
    results = train_population(members, doubles, config, seed=7)
    for member, own, result in zip(members, single, results, strict=True):
        assert untimed(result.metrics) == untimed(alone(own, doubles, config))
        assert result.population == 1
        assert largest_difference(member, own) == 0


def test_the_trial_trains_copies(doubles):
    members, before = mlps(), mlps()
    taken = time_sizes(members, doubles, TrainingConfig(), [1, 2, 4], turns=1)
    assert list(taken) == [1, 2, 4]
    assert all(seconds > 0 for seconds in taken.values())
    for member, own in zip(members, before, strict=True):
        assert largest_difference(member, own) == 0
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert choose_population_size([other, other], doubles, TrainingConfig()).size == 1
