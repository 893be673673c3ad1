"""A user's own data: folders of images and functions, what they give and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from mpnn_arch import InputError
from mpnn_arch.training.data import ImageDataset, full_name, load_dataset, short_name


def write_images(root, part, name, count, size=(6, 6), seed=0):
    """``count`` random PNGs of a class; gives their pixels (count, H, W, 3)."""
    folder = root / part / name
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
    return pixels


@pytest.fixture
def pictures(tmp_path):
    root = tmp_path / "pictures"
    for part, count in (("train", 4), ("test", 2)):
        for seed, name in enumerate(("cat", "dog", "eel")):
            write_images(root, part, name, count, seed=seed + 10 * count)
    return root


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Own modules are found in the current folder and forgotten afterwards."""
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


SOURCE = """
import torch
from mpnn_arch.training import ImageDataset

value = 3

def load(scale=2.0):
    labels = torch.arange(12) % 3
    return ImageDataset(
        name="stripes", train_images=scale * torch.ones(12, 1, 4, 4), train_labels=labels,
        test_images=torch.zeros(6, 1, 4, 4), test_labels=labels[:6], num_classes=3,
    )

def needs(path):
    return load()

def other():
    return [1, 2]
"""


def test_a_folder_is_read_by_class_and_normalised(tmp_path):
    root = tmp_path / "pictures"
    train = [write_images(root, "train", name, 4, seed=i) for i, name in enumerate("abc")]
    # The test part lacks a class: its labels are still those of the training folders.
    test = write_images(root, "test", "c", 2, seed=9)
    data = load_dataset(str(root))
    assert data.name == "pictures"
    assert (data.image_shape, data.num_classes) == ((3, 6, 6), 3)
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test_labels.tolist() == [2, 2]
    raw = torch.tensor(np.concatenate(train).transpose(0, 3, 1, 2), dtype=torch.float64)
    mean, deviation = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(data.train_images, ((raw - mean) / deviation).float())
    wanted = (torch.tensor(test.transpose(0, 3, 1, 2), dtype=torch.float64) - mean) / deviation
    torch.testing.assert_close(data.test_images, wanted.float())


def test_val_is_read_where_there_is_no_test(pictures):
    expected = load_dataset(str(pictures)).test_images
    (pictures / "test").rename(pictures / "val")
    assert torch.equal(load_dataset(str(pictures)).test_images, expected)


def test_a_channel_without_contrast_stays_finite(tmp_path):
    for part in ("train", "test"):
        folder = tmp_path / "flat" / part / "one"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4), (10, 0, 0)).save(folder / "a.png")
    assert not load_dataset("flat").train_images.any()


def test_hidden_files_and_folders_are_no_images(pictures):
    whole = load_dataset(str(pictures))
    for hidden in (".previews", "cat/.previews"):
        write_images(pictures, "train", hidden, 2, (3, 3))
    (pictures / "train" / "dog" / "._0.png").write_bytes(b"notes of a file manager")
    (pictures / "test" / ".empty").mkdir()
    data = load_dataset(str(pictures))
    assert (data.num_classes, data.num_train) == (3, 12)
    assert data.content_hash == whole.content_hash


def drop(*parts):
    return lambda root: [f.unlink() for f in sorted(root.joinpath(*parts).iterdir())]


def write(text, *parts):
    def spoil(root):
        root.joinpath(*parts).parent.mkdir(exist_ok=True)
        root.joinpath(*parts).write_text(text)

    return spoil


def write_of_16_bits(root):
    Image.fromarray(np.full((6, 6), 1000, np.uint16)).save(root / "train" / "cat" / "9.png")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "train").rename(root / "training"), "has no train subfolder"),
        (lambda root: (root / "test").rename(root / "testing"), "has no test or val subfolder"),
        (drop("train", "dog"), r"no valid file for the classes dog; .*\.png"),
        (
            lambda root: (root / "train").rename(root / ".x") and (root / "train").mkdir(),
            "no class folder",
        ),
        (lambda root: write_images(root, "test", "fox", 1), "fox is a class without training"),
        (lambda root: write_images(root, "test", "eel", 1, (6, 5)), "6 x 5 pixels.* 6 x 6"),
        (write("no image", "train", "cat", "9.png"), r"9\.png cannot be read as an image"),
        (write_of_16_bits, r"cat.9\.png cannot .* more than 8 bits; convert it to 8"),
    ],
)
def test_a_folder_laid_out_otherwise_is_refused(pictures, spoil, words):
    spoil(pictures)
    with pytest.raises(InputError, match=words) as error:
        load_dataset(str(pictures))
    assert "\n" not in str(error.value)


def test_a_function_gives_its_data_as_it_is(tmp_path):
    (tmp_path / "own_stripes.py").write_text(SOURCE)
    data = load_dataset("own_stripes:load")
    assert data.name == "stripes"
    assert (data.train_images == 2).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_absent:load", "no module 'own_absent'"),
        ("own_stripes.inner:load", "no module 'own_stripes.inner'"),
        ("own_stripes:laod", "has nothing called 'laod'"),
        ("own_stripes:value", "has no function, but a value, called 'value'"),
        ("own_stripes:needs", "called without arguments .*'path'"),
        ("own_stripes:other", "returned a list; return a mpnn_arch.training.ImageDataset"),
        ("own_stripes:", "a folder of images, or module:function"),
        ("mnist5", r"did you mean 'mnist5k'.*a folder of images, or module:function"),
        ("no/such/folder", "a folder of images, or module:function"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_sentence(tmp_path, name, words):
    (tmp_path / "own_stripes.py").write_text(SOURCE)
    with pytest.raises(InputError, match=words) as error:
        load_dataset(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "words", "kind"),
    [
        (
            "import own_dependency_that_is_missing\n",
            r"the module 'own_broken' raised ModuleNotFoundError: .*own_broken\.py, line 1\)",
            ModuleNotFoundError,
        ),
        ("def load(:\n", r"the module 'own_broken' raised SyntaxError", SyntaxError),
        ("import sys\nsys.exit(3)\n", r"raised SystemExit: 3 .*line 2\)", SystemExit),
        (
            "def load():\n    return 1 / 0\n",
            r"the function 'own_broken:load' raised ZeroDivisionError: .*own_broken\.py, line 2\)",
            ZeroDivisionError,
        ),
        ("def load():\n    open('no\\nfile')\n", r"FileNotFoundError: .*line 2\)", OSError),
    ],
)
def test_an_error_of_the_users_module_is_one_sentence_and_keeps_its_traceback(
    tmp_path, source, words, kind
):
    (tmp_path / "own_broken.py").write_text(source)
    with pytest.raises(InputError, match=words) as error:
        load_dataset("own_broken:load")
    assert "\n" not in str(error.value)
    assert isinstance(error.value.__cause__, kind)


def test_names_of_one_data_set(pictures):
    assert full_name("pictures") == str(pictures)
    assert (full_name("digits"), full_name("a:b")) == ("digits", "a:b")
    assert short_name(str(pictures)) == "pictures"
    assert short_name("my.data:load") == "my.data-load"
    (pictures.parent / "digits").mkdir()
    assert full_name("digits") == "digits"  # a name before a folder


def test_the_hash_follows_every_number():
    def make(**values):
        return ImageDataset(
            **{
                "name": "any",
                "train_images": torch.ones(4, 1, 2, 2),
                "train_labels": torch.arange(4) % 2,
                "test_images": torch.ones(2, 1, 2, 2),
                "test_labels": torch.arange(2),
                "num_classes": 2,
            }
            | values
        )

    hashes = [
        make().content_hash,
        make(train_images=torch.ones(4, 1, 2, 2) + 1e-6).content_hash,
        make(test_labels=torch.tensor([1, 0])).content_hash,
        make(test_images=torch.ones(2, 1, 2, 2).bfloat16()).content_hash,
    ]
    assert len(set(hashes)) == 4
    assert make(name="other").content_hash == hashes[0]
