"""Made-up results with a known answer, and the published ones where they are at hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpnn_arch.graphs import sample_parameters

SHARED = Path(__file__).parents[3] / "shared" / "published"


@pytest.fixture(scope="session")
def published():
    """The folder of the published results."""
    if not (SHARED / "mlp_cifar10_epoch200.csv").is_file():
        pytest.skip("the published results are not in ../shared/published")
    return SHARED


@pytest.fixture(scope="session")
def mlp(published):
    from mpnn_arch.analysis import load_results

    return load_results(published / "mlp_cifar10_epoch200.csv")


@pytest.fixture(scope="session")
def resnet(published):
    from mpnn_arch.analysis import load_results

    return load_results(published / "resnet34_imagenet_top1_error_by_epoch.csv")


def make_up(error, count=449, seeds=5, noise=0.3, seed=0, baseline=33.0):
    """A tidy table of the shipped sample, ``error(C, L, density)`` plus noise of every run.

    ``error`` is a function or one of the names bowl, flat and by_density.
    """
    error = {"bowl": bowl, "flat": flat, "by_density": by_density}.get(error, error)
    from mpnn_arch.analysis.graph_rows import identify

    rows = [
        ("ws_flex", 64, one.average_degree / 64, one.rewiring_probability, one.seed)
        for one in sample_parameters(64, count)
    ]
    columns = ["graph", "num_nodes", "density", "rewiring_probability", "graph_seed"]
    graphs, _ = identify(pd.DataFrame(rows, columns=columns), Path("."))
    truth = error(
        graphs["clustering_coefficient"].to_numpy(),
        graphs["average_path_length"].to_numpy(),
        graphs["density"].to_numpy(),
    )
    if baseline is not None:
        complete = dict.fromkeys(graphs.columns, 1.0) | {"graph": "complete:64", "num_nodes": 64}
        graphs = pd.concat([graphs, pd.DataFrame([complete])], ignore_index=True)
        truth = np.append(truth * np.ones(len(graphs) - 1), baseline)
    random = np.random.default_rng(seed)
    runs = [
        graphs.assign(
            train_seed=s, epoch=1, error=truth + noise * random.standard_normal(len(graphs))
        )
        for s in range(seeds)
    ]
    return pd.concat(runs, ignore_index=True).assign(results="made_up")


def bowl(c, length, density):
    """A sweet spot at C = 0.4, L = 2.4."""
    return 32 + 4 * (c - 0.4) ** 2 + 0.5 * (length - 2.4) ** 2


def flat(c, length, density):
    return 32 + 0 * c


def by_density(c, length, density):
    """Nothing but density matters."""
    return 32 + np.log(density / 0.25) ** 2


@pytest.fixture(scope="session")
def made_up():
    return make_up


@pytest.fixture(scope="session")
def bowl_table():
    return make_up(bowl)


@pytest.fixture(scope="session")
def flat_table():
    return make_up(flat, baseline=32.0)


@pytest.fixture(scope="session")
def density_table():
    return make_up(by_density)


@pytest.fixture
def results_file(tmp_path):
    """A small file in the published style, as text to change and a function to write it."""
    lines = [
        "graph,num_nodes,density,rewiring_probability,graph_seed,train_seed,top1_error",
        "complete,64,1.0,0.0,1,1,33.1",
        "complete,64,1.0,0.0,1,2,33.3",
    ]
    for one in sample_parameters(64, 52)[:12]:
        for seed in (1, 2):
            density = round(one.average_degree / 64, 6)
            p = round(one.rewiring_probability, 6)
            lines.append(f"ws_flex,64,{density},{p},{one.seed},{seed},{32 + 4 * p + 0.1 * seed}")

    def write(changed=lines, name="small_epoch3.csv"):
        path = tmp_path / name
        path.write_text("\n".join(changed) + "\n")
        return path

    write.lines = lines
    return write


def write_results(table, path):
    """A tidy table as a file in the published style, epochs side by side."""
    keys = ["graph", "num_nodes", "density", "rewiring_probability", "train_seed"]
    wide = table.pivot(index=[*keys, "graph_seed"], columns="epoch", values="error").reset_index()
    wide.columns = [f"epoch{name}" if isinstance(name, int) else name for name in wide.columns]
    complete = wide["graph"].str.startswith("complete")
    wide["graph"] = np.where(complete, "complete", "ws_flex")
    wide["graph_seed"] = wide["graph_seed"].astype(int)
    wide.to_csv(path, index=False)


@pytest.fixture(scope="session")
def small_results(tmp_path_factory):
    """Two files: 449 graphs, one epoch, three seeds; and 52 graphs, eight epochs, three seeds."""
    folder = tmp_path_factory.mktemp("results")
    write_results(make_up(bowl, seeds=3), folder / "many.csv")
    last = make_up(bowl, count=52, seeds=3, noise=0.05, seed=1)
    noise = np.random.default_rng(3).standard_normal(len(last))
    parts = [last.assign(epoch=t, error=last["error"] + noise / t**2) for t in range(1, 9)]
    write_results(pd.concat(parts), folder / "few.csv")
    return [folder / "many.csv", folder / "few.csv"]


@pytest.fixture(scope="session")
def small_report(small_results, tmp_path_factory):
    """The report on them."""
    from mpnn_arch.analysis import write_report

    out = tmp_path_factory.mktemp("reports") / "small"
    write_report(small_results, out)
    return out
