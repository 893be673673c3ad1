import pytest

from mpnn_arch.diagnostics import agreement

SMALL = ["--graph", "ring:8", "--in-channels", "19", "--out-channels", "21", "--batch", "3"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--dtype", "float32"],
        ["--dtype", "bfloat16"],
        ["--dtype", "float16"],
        ["--kernel-size", "3"],
        ["--kernel-size", "3", "--dtype", "bfloat16"],
    ],
)
def test_all_implementations_agree(run, more):
    code, out, _ = run("verify", *SMALL, *more)
    assert code == 0
    assert "masked" in out
    assert ("nn.Conv2d" if "--kernel-size" in more else "nn.Linear") in out
    assert "differs" not in out
    assert "largest difference" in out


def test_it_says_which_kernels_are_in_use_and_why(run):
    from mpnn_arch.kernels import cpu

    _, out, _ = run("verify", *SMALL)
    assert f"cpu: {cpu.describe()}" in " ".join(out.split())


def test_an_implementation_that_differs_is_reported_and_exits_with_1(run, monkeypatch):
    real = agreement._run

    def wrong(layer, *arguments):
        results = real(layer, *arguments)
        if getattr(layer, "backend", None) == "masked":
            results["grad weight"] = results["grad weight"] * 1.001
        return results

    monkeypatch.setattr(agreement, "_run", wrong)
    code, out, _ = run("verify", *SMALL)
    assert code == 1
    assert "differs" in out
    assert "1.0e-03" in out
    assert run("verify", *SMALL, "--tolerance", "0.01")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--graph", "galaxy:8"], "galaxy"),
        (["--in-channels", "3"], "3 channels cannot be shared among 8 nodes"),
        (["--in-channels", "0"], "--in-channels is at least 1"),
        (["--batch", "0"], "--batch-size"),
        (["--dtype", "float8"], "choose one of float32, float64"),
        (["--kernel-size", "2"], "odd"),
        (["--tolerance", "-1"], "--tolerance"),
        (["--device", "abacus"], "choose auto, cpu"),
        (["--device", "cuda:99"], "choose cpu"),
    ],
)
def test_bad_input_is_one_sentence(run, arguments, words):
    code, out, err = run("verify", *SMALL, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
