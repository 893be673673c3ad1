"""The choice of a backend: timed once, cached, stored with a layer, explained."""

import copy
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mpnn_arch import InputError, RelationalGraph
from mpnn_arch.kernels import backends, cpu, gather
from mpnn_arch.kernels.block_matmul import block_matmul
from mpnn_arch.kernels.dispatch import choice
from mpnn_arch.kernels.dispatch.choice import choose, sample_bucket, static_rule
from mpnn_arch.kernels.dispatch.picker import Picker
from mpnn_arch.kernels.geometry import ConvGeometry
from mpnn_arch.kernels.plan import RoundPlan, make_plan

SPARSE = RelationalGraph(8, [[0, 1, 2, 3], [1, 2, 3, 4]])


@pytest.fixture
def plan() -> RoundPlan:
    return make_plan(SPARSE.edge_index, [3] * 8, [2] * 8)


@pytest.fixture
def dense_plan() -> RoundPlan:
    almost = np.ones((8, 8), dtype=int)
    almost[0, 1] = 0
    missing_one = RelationalGraph.from_adjacency(almost, directed=True)
    return make_plan(missing_one.edge_index, [3] * 8, [2] * 8)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, list[float]]]:
    """Replaces the timing by one in which gather is fastest; records every trial."""
    recorded: list[dict[str, list[float]]] = []

    times = {"masked": [3e-3, 2e-3, 9e-3, 2e-3], "gather": [3e-3, 1e-3, 9e-3, 1e-3]}

    def time_backends(x, weight, plan, able, window, favourite):  # type: ignore[no-untyped-def]
        timed = {backend: times.get(backend, [4e-3]) for backend in able}
        if able[0] != "gather":  # else it is the second trial, against the rule's
            recorded.append(timed)
        return timed

    monkeypatch.setattr(choice, "time_backends", time_backends)
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(tmp_path))
    choice.forget()
    yield recorded
    choice.forget()


def tensors(plan: RoundPlan, batch: int = 5) -> tuple[Tensor, Tensor]:
    return torch.ones(batch, plan.in_channels), torch.ones(plan.num_weights)


def test_a_trial_is_run_once_and_cached(plan: RoundPlan, trials: list, tmp_path: Path) -> None:
    selected = choose(*tensors(plan), plan)
    assert (selected.backend, selected.how) == ("gather", "trial")
    assert selected.seconds["masked"] == 2e-3  # lower quartiles
    assert selected.seconds["gather"] == 1e-3
    assert choose(*tensors(plan, 8), plan) is selected  # 5 and 8 samples share a choice
    assert len(trials) == 1

    choice.forget()  # as in the next process
    again = choose(*tensors(plan), plan)
    assert (again.backend, again.how, again.seconds) == ("gather", "disk", selected.seconds)
    assert len(trials) == 1

    assert choose(*tensors(plan, 9), plan).how == "trial"
    x, weight = tensors(plan)
    assert choose(x.double(), weight.double(), plan).how == "trial"
    assert len(trials) == 3
    for path in (tmp_path / "choices").iterdir():
        assert json.loads(path.read_text())["choice"]["backend"] == "gather"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"choice": {"backend": "rm", "seconds": {}, "spread": {}}}']
)
def test_a_broken_cache_counts_as_a_missing_one(
    plan: RoundPlan, trials: list, tmp_path: Path, text: str
) -> None:
    choose(*tensors(plan), plan)
    (path,) = (tmp_path / "choices").iterdir()
    path.write_text(text)
    choice.forget()
    assert choose(*tensors(plan), plan).how == "trial"
    assert json.loads(path.read_text())["choice"]["backend"] == "gather"


def test_a_cache_that_cannot_be_written(
    plan: RoundPlan, trials: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(blocked))
    assert choose(*tensors(plan), plan).how == "trial"
    assert choose(*tensors(plan), plan).how == "trial"
    assert len(trials) == 1


def test_a_user_without_a_home_has_no_cache_on_disk(
    plan: RoundPlan, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MPNN_ARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert [choose(*tensors(plan), plan).how for _ in range(2)] == ["trial", "trial"]
    assert len(trials) == 1


def test_nothing_is_timed_where_results_must_be_reproducible(plan: RoundPlan, trials: list) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        assert choose(*tensors(plan), plan).how == "rule"
    finally:
        torch.use_deterministic_algorithms(False)
    assert choose(*tensors(plan, 0), plan).how == "rule"
    assert not trials


def test_the_rule(plan: RoundPlan, dense_plan: RoundPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    for able, selected in (
        (["masked", "gather"], "masked"),
        (["masked", "gather", "cpu"], "cpu"),
    ):
        monkeypatch.setattr(choice, "candidates", lambda *args, able=able: able)
        assert static_rule(plan, "cpu", torch.float32) == selected
        assert static_rule(dense_plan, "cpu", torch.float32) == selected


@pytest.mark.skipif(not cpu.is_available(), reason=cpu.unavailable_reason())
@pytest.mark.parametrize("dtype", cpu.DTYPES, ids=str)
def test_the_kernels_are_considered_for_every_dtype(plan: RoundPlan, dtype: torch.dtype) -> None:
    assert backends.candidates("cpu", dtype) == ["masked", "gather", "cpu"]
    assert static_rule(plan, "cpu", dtype) == "cpu"
    assert "cpu" not in backends.candidates("cpu", torch.float8_e5m2)


def test_a_real_trial_leaves_no_trace(plan: RoundPlan) -> None:
    choice.forget()
    x, weight = tensors(plan, 7)
    weight.requires_grad_()
    state = torch.get_rng_state()
    timed = choice.time_backends(x, weight, plan, ["masked", "gather"])
    assert torch.equal(torch.get_rng_state(), state)
    assert weight.grad is None
    assert all(seconds > 0 for times in timed.values() for seconds in times)
    with torch.inference_mode():
        choice.time_backends(torch.ones(2, plan.in_channels), weight, plan, ["masked"])


def test_a_backend_must_beat_the_rule_twice(
    plan: RoundPlan, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, rule = choice.time_backends, static_rule(plan, "cpu", torch.float32)

    def time_backends(*args, favourite):  # type: ignore[no-untyped-def]
        assert favourite == rule
        if args[3][0] == "gather":
            return {"gather": [5e-3], rule: [4e-3]}
        return once(*args, favourite=favourite)

    monkeypatch.setattr(choice, "time_backends", time_backends)
    selected = choose(*tensors(plan), plan)
    assert selected.backend == rule
    assert selected.seconds[rule] < selected.seconds["gather"]


def test_the_tables_of_other_backends_are_released(plan: RoundPlan, trials: list) -> None:
    backends.get("masked").prepare(plan)
    assert "dense_index" in plan.__dict__
    choose(*tensors(plan), plan)  # selects gather
    assert "dense_index" not in plan.__dict__


def test_tables_in_use_outlive_a_trial(plan: RoundPlan, trials: list) -> None:
    """A CUDA graph goes on to read those that it was captured with."""
    block_matmul(*tensors(plan), plan, "masked")
    index = plan.dense_index
    choose(*tensors(plan), plan)  # selects gather
    assert plan.dense_index is index
    block_matmul(*tensors(plan), plan, "gather")
    walks = gather.walks(plan)
    choose(*tensors(plan, 100), plan)
    assert plan.dense_index is index
    assert gather.walks(plan) is walks


def test_a_real_trial_keeps_its_selection_and_what_was_in_use(
    plan: RoundPlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(backends, "_BACKENDS", {k: backends.get(k) for k in ("masked", "gather")})
    released: list[str] = []
    for name in ("masked", "gather"):
        monkeypatch.setattr(backends.get(name), "release", lambda _, n=name: released.append(n))
    for batch in (3, 30, 300):  # each in a bucket of its own
        released.clear()
        selected = choose(*tensors(plan, batch), plan).backend
        assert released == [name for name in ("masked", "gather") if name != selected]
        choice.in_use(plan).clear()
    block_matmul(*tensors(plan), plan, "masked")
    block_matmul(*tensors(plan), plan, "gather")
    released.clear()
    choose(*tensors(plan, 3000), plan)
    assert not released


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Exception]:
    """A backend "failing" that raises the exception given here."""
    monkeypatch.setenv("MPNN_ARCH_CACHE", str(tmp_path))
    monkeypatch.setattr(backends, "_FAILURES", {})
    monkeypatch.setattr(backends, "_REASONS", dict(backends._REASONS))
    monkeypatch.setattr(backends, "_BACKENDS", {k: backends.get(k) for k in ("masked", "gather")})
    backends.warn_once.cache_clear()
    raised: dict[str, Exception] = {}

    def product(*args: object, **kwargs: object) -> Tensor:
        raise raised["error"]

    masked = backends.get("masked")
    members = {name: getattr(masked, name) for name in dir(masked) if not name.startswith("__")}
    members |= {"linear_forward": product, "ADDS_BIAS": False}
    backends.register("failing", SimpleNamespace(**members))
    choice.forget()
    return raised


def test_auto_does_without_a_backend_that_fails(plan: RoundPlan, failing: dict) -> None:
    """As Triton does where there is no C compiler."""
    failing["error"] = RuntimeError("driver\nFailed to find C compiler")
    x, weight = tensors(plan)
    with pytest.warns(UserWarning, match="the failing backend failed for torch.float32 on cpu"):
        selected = choose(x, weight, plan)
    assert set(selected.seconds) == {"masked", "gather"}
    assert "failing" not in backends.candidates("cpu", torch.float32)
    assert "failing" in backends.candidates("cpu", torch.float64)
    reason = backends.unavailable_reason("failing", "cpu", torch.float32)
    assert reason.endswith("(RuntimeError: Failed to find C compiler)")
    assert choose(x, weight, plan).how == "trial"  # found again, and nothing is timed
    choice.forget()
    assert choose(x, weight, plan).how == "disk"
    # Another process, where the compiler is there, times it.
    backends._FAILURES.clear()
    choice.forget()
    assert choose(x, weight, plan).how == "trial"


@pytest.mark.parametrize(
    "error",
    [
        InputError("tables of 10^12 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_backend_that_lacks_memory_is_tried_again(
    plan: RoundPlan, failing: dict, error: Exception, recwarn: pytest.WarningsRecorder
) -> None:
    failing["error"] = error
    assert set(choose(*tensors(plan), plan).seconds) == {"masked", "gather"}
    assert "failing" in backends.candidates("cpu", torch.float32)
    assert not recwarn
    with pytest.raises(type(error)):
        choice.time_backends(*tensors(plan), plan, ["failing"])


def test_a_picker_caches_its_choice(plan: RoundPlan, trials: list) -> None:
    picker = Picker()
    assert picker(*tensors(plan), plan, None) == "gather"
    assert picker.choices == {"float32 cpu 8": "gather"}

    other = Picker()
    other.choices = {"float32 cpu 8": "masked"}
    assert other(*tensors(plan), plan, None) == "masked"
    assert len(trials) == 1
    # A traced program, which may not be timed, uses the choice cached for another batch size.
    torch.use_deterministic_algorithms(True)
    try:
        assert other(*tensors(plan, 100), plan, None) == "masked"
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.raises(InputError, match="'float32 cpu 8': 'gone'"):
        other.choices = {"float32 cpu 8": "gone"}
    with pytest.raises(InputError, match="no backend 'fast'"):
        Picker("fast")


def test_choices_are_read_while_another_thread_adds_to_them(plan: RoundPlan, trials: list) -> None:
    picker = Picker()
    picker(*tensors(plan), plan, None)

    class Meanwhile:
        """A choice; whoever reads or copies it finds another one added, as by another thread."""

        backend = property(lambda self: self.add())

        def add(self) -> str:
            picker._choices[torch.float32, "cpu", 2 ** (len(picker._choices) + 8)] = self
            return "gather"

        def __str__(self) -> str:
            return self.add()

        def __deepcopy__(self, memo: dict) -> str:
            return self.add()

        def __reduce__(self) -> tuple:
            return str, (self.add(),)

    picker._choices[torch.float32, "cpu", 1] = Meanwhile()
    assert picker.choices == {"float32 cpu 8": "gather", "float32 cpu 1": "gather"}
    assert "float32 cpu 1024: gather" in picker.explain(plan)
    for copied in (copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        before = set(picker._choices)
        assert set(copied(picker)._choices) == before < set(picker._choices)


def test_a_backend_for_maps_alone_is_timed_once(
    plan: RoundPlan, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_maps = SimpleNamespace(**vars(gather) | {"worth_timing": lambda _, kernel: bool(kernel)})
    monkeypatch.setitem(backends._BACKENDS, "of_maps", of_maps)
    monkeypatch.setattr(choice, "_fastest", lambda timed, *_: "of_maps")
    x, weight = torch.ones(2, plan.in_channels, 5, 5), torch.ones(plan.num_weights, 3, 3)
    assert choose(x, weight, plan, ConvGeometry((3, 3))).how == "trial"
    timed = len(trials)
    assert choose(x, weight, plan, ConvGeometry((3, 3))).how == "trial"
    choice.forget()  # what is on the disk remains
    assert choose(x, weight, plan, ConvGeometry((3, 3))).how == "disk"
    assert len(trials) == timed


def test_the_explanation_names_times(plan: RoundPlan, trials: list) -> None:
    picker = Picker()
    assert "nothing selected yet" in picker.explain(plan)
    picker(*tensors(plan), plan, None)
    explanation = picker.explain(plan)
    assert "gather (timed in this process: gather 1 ms, masked 2 ms" in explanation
    assert "float32 cpu 8" in explanation


def test_a_backend_that_cannot_run_warns_once(
    plan: RoundPlan, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setitem(backends._REASONS, "cpu", "there is no compiler here")
    backends.warn_once.cache_clear()
    picker = Picker("cpu")
    for _ in range(3):
        assert picker(*tensors(plan), plan, None) == "masked"
    warned = [str(warning.message) for warning in recwarn]
    assert warned == ["there is no compiler here; its rounds run on 'masked' instead"]


@pytest.mark.parametrize(("samples", "bucket"), [(1, 1), (2, 2), (3, 4), (128, 128), (129, 256)])
def test_buckets(samples: int, bucket: int) -> None:
    assert sample_bucket(samples) == bucket


def test_auto_is_the_default(plan: RoundPlan, trials: list) -> None:
    x, weight = tensors(plan)
    assert torch.equal(block_matmul(x, weight, plan), block_matmul(x, weight, plan, "gather"))
    assert len(trials) == 1


def test_tensors_on_mps_have_masked_and_gather_and_are_told_so() -> None:
    assert backends.candidates("mps", torch.float32) == ["masked", "gather"]
    if not backends.unavailable_reason("cpu", "cpu", torch.float32):
        assert backends.unavailable_reason("cpu", "mps", torch.float32) == (
            "the cpu backend runs on cpu, not on mps, where there are masked and gather"
        )
