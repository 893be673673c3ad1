"""Whatever is typed: an exit code of 2, one line that helps, and no traceback."""

import os
import signal
import subprocess
import sys
import time

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpnn_arch import cli
from mpnn_arch.cli.failures import exit_code_of
from mpnn_arch.errors import InputError

NINES, LONG = "9" * 400, "x" * 5000
ARABIC = "\u0666\u0664"  # 64

SPECS = {
    f"ring:{NINES}": "is not a number",
    f"ring:{'9' * 5000}": "characters)",
    f"ring:64,{NINES}": "is not a number",
    f"ws_flex:64,8,0.1,{NINES}": "is not a number",
    LONG: "is not a graph spec",
    f"{LONG}:64": "is not a graph spec",
    f"ring:{LONG}": "is not a number",
    f"ring:64,{LONG}=4": "no parameter",
    f"file:{LONG}.csv": "File name too long",
    f"connectome:{LONG}": "no connectome",
    f"published:{NINES}/52": "does not name a list",
    "": "is not a graph spec",
    ":": "is not a graph spec",
    "::::": "is not a graph spec",
    "torus:64": "is not a graph spec",
    "RING:64": "is not a graph spec",
    "ring": "lacks parameters",
    "ring:": "lacks parameters",
    "ring:,": "is not a number",
    "ring:64,,4": "'' is not a number",
    "ring:64;4": "is not a number",
    "ring:64 4": "is not a number",
    "ring:64_0": "is not a number",
    f"ring:{ARABIC}": "is not a number",
    "ring:\uff16\uff14": "is not a number",
    "ring:0x40": "is not a number",
    "ring:1e400": "is not a number",
    "ring:nan": "is not a number",
    "ring:inf": "is not a number",
    "ring:-inf": "is not a number",
    "ring:--64": "is not a number",
    "ring:1e": "is not a number",
    "ring:64.5": "num_nodes is an integer",
    "ring:-64": "num_nodes is at least 2",
    "ring:0": "num_nodes is at least 2",
    "ring:1": "num_nodes is at least 2",
    "ring:3000000000": "num_nodes is between",
    "ring:2000000000,20": "bytes",
    "ring:64,64": "degree is between 2 and 63",
    "ring:9,3": "needs an even number of nodes",
    "ring:64,4,5,6": "too many positional",
    "ring:64,size=3": "no parameter 'size'",
    "ring:degree=4": "missing a required argument",
    "ring:64,degree=4,degree=4": "gives degree twice",
    "ring:num_nodes=64,num_nodes=64": "gives num_nodes twice",
    "ring:64,num_nodes=64": "multiple values",
    "ring:degree=4,64": "follows a named parameter",
    "ws_flex:64,8,0.1,seed=0,seed=1": "gives seed twice",
    "ws_flex:64,8,0.1,-1": "seed is at least 0",
    "ws_flex:64,8,0.1,0.5": "seed is an integer",
    "ws_flex:64,8,1.1": "rewiring_probability lies between 0 and 1",
    "ws_flex:64,1,0.1": "average_degree lies between 2 and 63",
    "ws_flex:64,64,0.1": "average_degree lies between 2 and 63",
    "ws_flex:64": "missing a required argument",
    "ws_flex:2,2,0": "num_nodes is at least 3",
    "ws_flex:2000000000,8,0.1": "bytes",
    "ws:10,3,0.1": "is even",
    "ws:100000000,10,0.1": "at most 20,000,000",
    "er:10,3": "num_edges is between 9 and 45",
    "er:10,46": "num_edges is between 9 and 45",
    "er:1000000,1000000": "without an edge",
    "er:100000,4000000000": "at most 20,000,000",
    "ba:10,10": "edges_per_node is between 1 and 9",
    "ba:10000000,100": "at most 20,000,000",
    "harary:10,1": "num_edges is between 9 and 45",
    "harary:10000000,200000000": "at most 20,000,000",
    "hypercube:63": "power of two",
    "hypercube:1073741824": "bytes",
    "grid:64,7": "give a divisor of 64",
    "grid:64,0": "num_columns is between 1 and 64",
    "grid:64,8,2": "periodic is between 0 and 1",
    "grid:64,8,0.5": "periodic is an integer",
    "grid:2000000000": "bytes",
    "tree:64,0": "branching is between 1 and 63",
    "tree:64,64": "branching is between 1 and 63",
    "star:1": "num_nodes is at least 2",
    "star:2000000000": "bytes",
    "complete:1000000": "bytes",
    "regular:9,3": "odd degree 3",
    "regular:64,1": "degree is between 2 and 63",
    "regular:100000,4": "at most 10,000 nodes",
    "lfr:3,2": "num_nodes is at least 4",
    "lfr:10,30": "average_degree lies between 2 and 9",
    "lfr:10,3,2": "mixing lies between 0 and 1",
    "lfr:10,3,0.2,1": "degree_exponent lies between",
    "lfr:10,3,0.2,3,1": "community_exponent lies between",
    "lfr:10,3,0.2,3,1.5,11": "min_community is between 2 and 10",
    "lfr:1000000,10": "at most 20,000",
    "modular:64,0": "num_modules is between 1 and 64",
    "modular:64,65": "num_modules is between 1 and 64",
    "modular:64,4,2": "within_probability lies between 0 and 1",
    "modular:64,4,0,0": "without an edge",
    "modular:100000,100000": "at most 20,000,000",
    "modular:64,4,1,0": "no connected graph",
    "core_periphery:64,0": "core_size is between 1 and 63",
    "core_periphery:64,8,0.9,0,0": "no connected graph",
    "core_periphery:100000,50000": "at most 20,000,000",
    "published:": "does not name a graph",
    "published:64": "does not name a list",
    "published:64/99": "no published list of 99",
    "published:64/3942/99999": "numbered 0 to 3941",
    "published:64/3942/-1": "numbered 0 to 3941",
    "published:64/3942/": "numbered 0 to 3941",
    "published:64/3942/9:3": "empty slice",
    "published:64/3942/6_4": "does not name a list",
    f"published:{ARABIC}/3942": "does not name a list",
    "published:64/3942/0/0": "does not name a list",
    "published:-64/3942": "num_nodes is at least 1",
    "sample:64/52/52": "numbered 0 to 51",
    "sample:64/52/0:1:2": "does not name a list",
    "sample:64/52/0.5": "does not name a list",
    "sample:64/52": "names 52 graphs",
    "connectome:": "does not name a graph",
    "connectome:mouse": "no connectome 'mouse'",
    "connectome:cat_cortex,both": "unknown option 'both'",
    "connectome:cat_cortex,directed,directed": "unknown option",
    "file:": "does not name a graph",
    "file:/": "is a folder",
    "file:FOLDER": "unknown format",
    "file:FOLDER.csv": "is a folder",
    "file:absent.csv": "there is no file absent.csv",
    "file:absent.xyz": "unknown format",
    "file:a\0b.csv": "NUL",
}

COMMANDS = {
    "nope": "No such command",
    "--nope": "No such option",
    "graphs nope": "No such command",
    "graphs make": "Missing argument",
    "graphs make ring:8 ring:9": "unexpected extra argument",
    "graphs make ring:8 --out FOLDER": "is a folder",
    "graphs make ring:8 --out FOLDER --force": "is a folder",
    "graphs make ring:8 --out FILE.csv": "pass --force",
    "graphs make ring:8 --out absent/x.csv": "cannot be written to",
    "graphs make ring:8 --out FILE.csv/x.csv": "cannot be written to",
    "graphs make ring:8 --out x.pdf": "unknown format",
    "graphs make ring:8 --out x": "unknown format",
    f"graphs make ring:8 --out {LONG}.csv": "File name too long",
    "graphs make ring:200000 --out x.csv": "bytes",
    "graphs make ring:200000 --out x.npy": "bytes",
    "graphs make file:one_way.npy --out x.edges": "lose the directions",
    "graphs measure": "Missing argument",
    "graphs measure ring:8 -m nope": "no measure 'nope'",
    "graphs measure ring:8 -m ''": "no measure ''",
    f"graphs measure ring:8 -m {LONG}": "no measure",
    "graphs measure ring:8 --out FOLDER": "is a folder",
    "graphs measure ring:800000 -m clustering_coefficient": "bytes",
    "graphs measure ring:800000 -m diameter": "bytes",
    "graphs measure ring:800000 -m betweenness_max": "bytes",
    "graphs measure ring:800000 -m modularity": "bytes",
    "graphs measure ring:800000 -m small_world_omega": "bytes",
    "graphs measure ring:800000 -m spectral_gap": "bytes",
    "graphs measure ring:800000 --all": "bytes",
    "graphs measure file:one.csv --all": "1 node",
    "graphs measure file:one.csv -m spectral_gap": "1 node has one eigenvalue",
    "graphs measure file:one.csv -m algebraic_connectivity": "1 node has one eigenvalue",
    "graphs draw ring:8": "Missing option",
    "graphs draw ring:8 --out x.bmp": "a picture is",
    "graphs draw ring:8 --out FOLDER.png": "is a folder",
    "graphs draw ring:8 --out x.png --seed -1 --layout spring": "seed is between",
    "graphs draw ring:8 --out x.png --seed 99999999999": "seed is between",
    "graphs draw ring:8 --out x.png --seed 1_0": "is not an integer",
    "graphs draw ring:8 --out x.png --layout nope": "is not one of",
    "graphs draw sample:64/449 --out x.png": "one picture holds 64",
    "graphs sample": "Missing option",
    "graphs sample --out s --num-nodes 2": "num_nodes is at least 8",
    "graphs sample --out s --num-nodes 1e3": "is not an integer",
    "graphs sample --out s --degrees 0": "degrees is at least 1",
    "graphs sample --out s --probabilities -3": "probabilities is at least 1",
    "graphs sample --out s --workers 0": "workers is between 1 and 1024",
    "graphs sample --out s --workers 100000": "workers is between 1 and 1024",
    "graphs sample --out s --repeats 0": "repeats is between 1 and 1000000",
    "graphs sample --out s --repeats 100000000000000000": "repeats is between 1 and 1000000",
    "graphs sample --out s --num-nodes 1000000": "bytes",
    "graphs sample --out s --bins 0": "bins is between",
    "graphs sample --out s --bins 100000000000": "bins is between",
    "graphs sample --out FILE.csv": "there is a file of that name",
    "models nope": "no model 'nope'",
    f"models {LONG}": "no model",
    "models ''": "no model ''",
    "models --dense": "name a model",
    "models mlp --dense --graph ring:8": "--dense has no graph",
    "models mlp --width-multiplier inf": "is not a number",
    "models mlp --width-multiplier nan": "is not a number",
    "models mlp --width-multiplier 1_0": "is not a number",
    "models mlp --width-multiplier 0": "width_multiplier is above 0",
    "models mlp --width-multiplier -1": "width_multiplier is above 0",
    "models mlp --width-multiplier 1e300": "width_multiplier is above 0",
    "models mlp --width-multiplier 1e6": "choose a smaller width_multiplier",
    "models mlp --width-multiplier 1e-300": "fewer than the 64 nodes",
    "models mlp --image-size 0": "image_size is an integer of at least 1",
    "models mlp --image-size 4294967296": "image_size is at most",
    "models mlp --image-size 999999999": "not enough memory",
    f"models mlp --image-size {NINES}": "is not an integer",
    "models mlp --num-classes 1_0": "is not an integer",
    f"models mlp --num-classes {ARABIC}": "is not an integer",
    "models mlp --num-classes 2.0": "is not an integer",
    "models mlp --in-channels -3": "in_channels is an integer of at least 1",
    "models resnet34 --image-size 1": "too small",
    "models vgg11 --image-size 8": "too small",
    "models vit --image-size 30": "not a multiple of the patch size",
    "models mlp --graph ''": "is not a graph spec",
    "models mlp --graph complete:600": "fewer than the 600 nodes",
    "models mlp --graph sample:64/52": "takes one graph",
    "models mlp --diagram FOLDER": "is a folder",
    "models mlp --diagram x.nope": "a picture is",
    "verify --in-channels 0": "--in-channels is at least 1",
    "verify --out-channels -1": "--out-channels is at least 1",
    "verify --batch-size 0": "--batch-size is at least 1",
    "verify --in-channels 1_0": "is not an integer",
    f"verify --in-channels {ARABIC}": "is not an integer",
    "verify --in-channels 10000000000": "--in-channels is at most",
    "verify --in-channels 8": "8 channels cannot be shared among 64 nodes",
    "verify --batch 2147483647": "not enough memory",
    "verify --dtype int8": "no dtype 'int8'",
    "verify --dtype ''": "no dtype ''",
    "verify --kernel-size 2": "is odd",
    "verify --kernel-size -1": "is odd",
    "verify --kernel-size 99": "at most 15",
    "verify --device cpu:7": "no device 'cpu:7'",
    "verify --device cuda:007": "no device",
    "verify --device tpu": "no device 'tpu'",
    "verify --device meta": "no device 'meta'",
    "verify --device ''": "no device ''",
    f"verify --device {LONG}": "no device",
    "verify --device cuda:99": "torch finds",
    "verify --seed -1": "--seed is at least 0",
    "verify --tolerance -1": "--tolerance is at least 0",
    "verify --tolerance nan": "is not a number",
    "verify --tolerance inf": "is not a number",
    "verify --graphs nope": "is not a graph spec",
    "verify --out 8": "No such option",
    "bench --threads 100000": "--threads is at most ",
    "bench --threads 0": "--threads is at least 1",
    "bench --batch 0": "--batch-size is at least 1",
    "bench --width 0": "--width is at least 1",
    "bench --repeats 0": "--repeats is at least 1",
    "bench --dtype x": "no dtype 'x'",
    "bench --device x": "no device 'x'",
    "bench --graphs ''": "is not a graph spec",
    "gnn --model ''": "is empty",
    "gnn --model ,": "is empty",
    "gnn --model nope": "no GNN layer 'nope'",
    "gnn --model gcn,gcn": "repeats gcn",
    "gnn --seeds 0": "neither a number of seeds",
    "gnn --seeds 1000000000000": "--seeds is at most 10,000",
    "gnn --hidden 0": "--hidden is at least 1",
    "gnn --hidden 1000000000": "--hidden is at most",
    "gnn --epochs 0": "--epochs is at least 1",
    "sweep --workers -1": "workers is an integer of at least 0 or auto",
    "sweep --workers ''": "workers is an integer of at least 0 or auto",
    f"sweep --workers {NINES}": "workers is an integer of at least 0 or auto",
    f"sweep --workers {ARABIC}": "workers is an integer of at least 0 or auto",
    "sweep --workers auto --threads 2": "leave out threads",
    "sweep --threads 0": "threads is an integer of at least 1",
    "sweep --population 0": "population is auto, off, or a number",
    "sweep --population all": "population is auto, off, or a number",
    "sweep --race x": "--race takes numbers of epochs",
    "sweep --race 1_0": "--race takes numbers of epochs",
    "sweep --race 3,": "--race takes numbers of epochs",
    "sweep --race 9,3": "the rungs of a race rise",
    "sweep --race 0": "the rungs of a race rise",
    "sweep --race 3 --epochs 3": "the rungs of a race rise",
    "sweep --race 3 --keep 1": "keep is a share between 0 and 1",
    "sweep --race 3 --keep nan": "is not a number",
    "sweep --log-json FOLDER": "is a directory",
    "sweep --log-json FOLDER/no/log.jsonl": "give another --log-json",
    "train --model nope": "no model 'nope'",
    "train --model ''": "no model ''",
    "train --dataset nope": "no data set 'nope'",
    "train --dataset ''": "no data set ''",
    f"train --dataset {LONG}": "no data set",
    "train --dataset FOLDER": "no train subfolder",
    "train --dataset no_module:function": "no_module",
    "train --dataset digits --set lighting=1": "are for folders of images",
    "train --dataset digits --set crop_padding=100000": "crop_padding is at most 8",
    "train --graph nope": "is not a graph spec",
    "train --graph ''": "is not a graph spec",
    "train --graph ring:8 --graph ring:8": "twice",
    "train --seeds 0": "neither a number of seeds",
    "train --seeds -1": "neither a number of seeds",
    "train --seeds ''": "neither a number of seeds",
    "train --seeds a": "neither a number of seeds",
    "train --seeds 1_0": "neither a number of seeds",
    f"train --seeds {ARABIC}": "neither a number of seeds",
    f"train --seeds {NINES}": "neither a number of seeds",
    "train --seeds 1000000000000": "--seeds is at most 10,000",
    "train --seeds 0,0,1": "twice",
    "train --epochs 0": "epochs is an integer of at least 1",
    "train --epochs x": "is not an integer",
    "train --epochs": "requires an argument",
    "train --batch-size 1": "batch_size is an integer of at least 2",
    "train --learning-rate 0": "learning_rate is above 0",
    "train --learning-rate inf": "is not a number",
    "train --weight-decay -1": "weight_decay is at least 0",
    "train --init '' --dataset digits": "no init ''",
    "train --init nope --dataset digits": "no init 'nope'",
    "train --backend ''": "no backend ''",
    "train --backend nope": "no backend 'nope'",
    "train --width-multiplier inf": "is not a number",
    "train --train-images 0": "train_images is an integer of at least 1",
    "train --dataset digits --test-images 9999999": "test images were asked for",
    "train --resume": "--resume needs --out",
    "train --resume --out absent": "--resume needs --out",
    "train --dataset digits --out FOLDER": "is not a study",
    "train --device cpu:7": "no device 'cpu:7'",
    "compare --model nope": "no model 'nope'",
    "compare --dataset nope": "no data set 'nope'",
    "compare --dataset digits --aggr ''": "is empty",
    "compare --dataset digits --aggr sum,sum": "repeats sum",
    "compare --dataset digits --message ''": "is empty",
    "compare --seeds 0": "neither a number of seeds",
    "compare --seeds 1000000000000": "--seeds is at most 10,000",
    "compare --epochs 0": "epochs is an integer of at least 1",
    "compare --dataset digits --train-images 0": "train_images is an integer of at least 1",
    "compare --graphs nope": "is not a graph spec",
    "compare --device x --dataset digits": "no device 'x'",
}


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Run a command in a folder of its own that holds a few files and folders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("FOLDER", "FOLDER.csv", "FOLDER.png"):
        (tmp_path / folder).mkdir()
    (tmp_path / "FILE.csv").write_text("")
    (tmp_path / "one.csv").write_text("1\n")
    header = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|b1', 'fortran_order': False, 'shape': (2, 2), }"
    (tmp_path / "one_way.npy").write_bytes(header.ljust(127) + b"\n" + b"\x01\x00\x01\x01")

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run_command


def is_refused(code, err, fragment):
    assert code == 2, err
    assert fragment in err
    assert "Traceback" not in err
    assert len(err) < 3000 or "Usage" in err  # click repeats what it does not know
    if "Usage" not in err and not err.startswith("Error"):
        assert err.startswith("mpnn-arch: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("spec", "fragment"), SPECS.items(), ids=[f"spec{i}" for i in range(len(SPECS))]
)
def test_a_spec_is_refused_in_one_line(run, spec, fragment):
    code, _, err = run("graphs", "make", "--", spec)
    is_refused(code, err, fragment)


@pytest.mark.parametrize(
    ("line", "fragment"), COMMANDS.items(), ids=[f"line{i}" for i in range(len(COMMANDS))]
)
def test_a_command_line_is_refused_in_one_line(run, line, fragment):
    code, _, err = run(*("" if part == "''" else part for part in line.split()))
    is_refused(code, err, fragment)


def test_triton_without_a_gpu_is_refused(run):
    import torch

    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET"):
        pytest.skip("triton runs here")
    code, _, err = run("train", "--backend", "triton", "--device", "cpu")
    is_refused(code, err, "cannot be used")


ANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(
    ["graphs", "make", "measure", "ring:8", "--out", "--seed", "-m", "diameter", "-1", "--", "0"]
)
SHORT = st.text(st.characters(codec="utf-8"), max_size=12)


@ANY
@given(st.lists(WORDS | SHORT, max_size=5))
def test_any_words_end_with_a_code_and_no_traceback(run, words):
    code, _, err = run("graphs", *words)
    assert code in (0, 2)
    assert "Traceback" not in err


NAMES = st.sampled_from(["ring", "er", "ba", "ws", "grid", "tree", "star", "lfr", "harary", "ws"])
VALUES = st.integers(-3, 30).map(str) | st.floats(-2, 50).map(str) | SHORT


@ANY
@given(NAMES, st.lists(VALUES, max_size=4))
def test_any_parameters_give_a_graph_or_a_line(run, name, values):
    code, out, err = run("graphs", "make", "--", f"{name}:{','.join(values)}")
    assert (code, err) == (0, "") or code == 2
    assert ("RelationalGraph(" in out) == (code == 0)
    assert err.count("\n") <= 1


@pytest.mark.parametrize(
    ("error", "code", "fragment"),
    [
        (InputError("a\nb"), 2, "mpnn-arch: a b\n"),
        (InputError(LONG), 2, "..."),
        (KeyError("x"), 1, "MPNN_ARCH_TRACEBACK=1 shows where"),
        (RecursionError("too deep"), 1, "RecursionError: too deep"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.exceptions.Abort(), 130, "interrupted"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (MemoryError("Unable to allocate 9 GiB"), 2, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried"), 2, "not enough memory"),
        (RuntimeError("shapes differ"), 1, "RuntimeError: shapes differ"),
        (ImportError("libtorch_cpu.so: failed to map segment"), 2, "ulimit -v"),
        (ImportError("no such name"), 1, "ImportError: no such name"),
        (OSError(28, "No space left on device", "w.csv"), 2, "w.csv: No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(27, "File too large", "w"), 2, "ulimit -f"),
        (IsADirectoryError(21, "Is a directory", "d"), 2, "d: Is a directory; name a file"),
        (OSError("odd"), 2, "odd"),
    ],
)
def test_whatever_escapes_is_one_line(capsys, monkeypatch, error, code, fragment):
    monkeypatch.delenv("MPNN_ARCH_TRACEBACK", raising=False)
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # a closed pipe replaces standard output

    def fail():
        raise error

    assert exit_code_of(fail) == code
    err = capsys.readouterr().err
    assert fragment in err
    assert err.count("\n") == (code != 141)
    assert len(err) < 500
    monkeypatch.setenv("MPNN_ARCH_TRACEBACK", "1")
    assert exit_code_of(fail) == code
    assert "in fail" in capsys.readouterr().err


def start(*arguments, **options):
    command = [sys.executable, "-m", "mpnn_arch", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("what", ["graphs list", "--help", "graphs --help", "models --help"])
def test_a_closed_pipe_is_quiet(what):
    read, write = os.pipe()
    os.close(read)
    process = start(*what.split(), stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(unbuffered):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        process = start("graphs", "make", "ring:8", stdout=full, env=environment)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "No space left on device" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_log_on_a_full_disk_ends_no_training(tmp_path, unbuffered):
    what = "--dataset digits --graphs ring:8,2 --seeds 1 --epochs 1 --workers 0 --out study"
    command = [sys.executable, "-m", "mpnn_arch", "sweep", *what.split()]
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert process.returncode == 0
    assert "ring:8,2" in process.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_what_a_full_disk_does_not_take_at_the_end_changes_no_exit_code():
    code = (
        "import sys; from mpnn_arch.cli.failures import exit_code_of\n"
        "sys.exit(exit_code_of(lambda: sys.stderr.write('half a line')))"
    )
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", code], stderr=full, env=environment)
    assert process.returncode == 11


@pytest.mark.parametrize("delay", [0.3, 1.5])
def test_ctrl_c_exits_with_130(delay):
    # A graph that is drawn for much longer than the delay; the import takes less.
    code, err = _interrupted(delay, "graphs", "make", "ba:3000000,5")
    while code == -signal.SIGINT and ("mpnn_arch" not in err or "importlib" in err) and delay < 20:
        # A loaded machine: Python was still starting or importing, and `main` had not begun.
        delay *= 2
        code, err = _interrupted(delay, "graphs", "make", "ba:3000000,5")
    assert code == 130
    assert "Traceback" not in err


def _interrupted(delay, *arguments):
    process = start(
        *arguments,
        stdout=subprocess.DEVNULL,
        # The tests themselves may run in the background, where the signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    return process.returncode, err
