import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.io.tensor_file import read_tensors, write_tensors

KIND = "a test 1"


@pytest.fixture
def saved(tmp_path):
    shared = torch.arange(6.0)
    tensors = {"a": shared, "b": shared[2:4], "scalar": torch.tensor(3), "none": torch.zeros(0, 2)}
    write_tensors(tmp_path / "x.safetensors", tensors, {"note": "hello"}, kind=KIND)
    return tmp_path / "x.safetensors", tensors


def test_what_was_written_is_read(saved):
    path, tensors = saved
    read, metadata = read_tensors(path, kind=KIND)
    assert metadata == {"note": "hello", "kind": KIND}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_file_cut_short_is_refused(saved):
    path, _ = saved
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            read_tensors(path, kind=KIND)


def test_a_changed_file_is_refused(saved):
    path, _ = saved
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InputError, match="was changed"):
        read_tensors(path, kind=KIND)


def test_changed_metadata_is_refused(saved):
    path, _ = saved
    path.write_bytes(path.read_bytes().replace(b"hello", b"jello"))
    with pytest.raises(InputError, match="was changed"):
        read_tensors(path, kind=KIND)


def test_another_kind_is_refused(saved):
    with pytest.raises(InputError, match="is a test 1, not a model"):
        read_tensors(saved[0], kind="a model")


@pytest.mark.parametrize(
    ("written", "read"), [("a model 1", "a model 2"), ("a model 9", "a model 2")]
)
def test_another_version_is_refused_with_both(tmp_path, written, read):
    write_tensors(tmp_path / "x", {"a": torch.zeros(1)}, {}, kind=written)
    with pytest.raises(InputError, match=f"is {written}, not {read}; use the mpnn_arch that"):
        read_tensors(tmp_path / "x", kind=read)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_tensors(tmp_path / "none", kind=KIND)


def test_a_missing_folder_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_tensors(tmp_path / "none" / "x", {"a": torch.zeros(1)}, {}, kind=KIND)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    path, _ = saved
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpnn_arch.io.tensor_file.save_file", fail)
    with pytest.raises(InputError, match="No space left"):
        write_tensors(path, {"a": torch.zeros(1)}, {}, kind=KIND)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
