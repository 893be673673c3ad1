"""A tiny made-up folder, laid out as ImageNet's."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mpnn_arch import InputError
from mpnn_arch.training import ImageFolder, Trainer, TrainingConfig, load_dataset
from mpnn_arch.training.image_folder import Lighting

AUGMENTED = TrainingConfig(
    epochs=2, batch_size=4, learning_rate=0.01, drop_last=True, flip=True, smallest_area=0.08,
    lighting=0.1, batch_norm_images=8,
)  # fmt: skip


def fill(root, classes=("ant", "bee", "cat"), train=5, val=2):
    """Colour gradients of odd sizes, a hue a class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        for part, count in (("train", train), ("val", val)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(20, 60, 2)
                pixels = rng.integers(0, 60, (height, width, 3))
                pixels[:, :, label] += np.linspace(50, 190, width).astype(int)
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / f"{number}.{'png' if number == 1 else 'JPEG'}")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("images"))


def folder(root, workers=0, **values):
    return ImageFolder(root, image_size=28, workers=workers, **values)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip


def epoch_of(data, config=AUGMENTED, seed=0):
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(data.num_train)
    made = list(data.train_batches(config, order, generator))
    return torch.cat([x for x, _ in made]), torch.cat([y for _, y in made])


def test_it_is_listed_by_class(root):
    data = folder(root)
    assert (data.num_classes, data.num_train, data.num_test) == (3, 15, 6)
    assert (data.image_shape, data.num_features) == ((3, 28, 28), 3 * 28 * 28)
    images, labels = zip(*data.test_batches(4), strict=True)
    assert [len(x) for x in images] == [4, 2]
    assert torch.cat(labels).tolist() == [0, 0, 1, 1, 2, 2]
    part = data.subset(6, 3)
    assert (part.num_train, part.num_test) == (6, 3)
    assert epoch_of(part)[1].tolist() == [0, 0, 1, 1, 2, 2]
    for count, words in ((16, "1 to 15"), (2, "3 classes")):
        with pytest.raises(InputError, match=words):
            data.subset(count)


def test_hidden_files_and_folders_are_no_images(tmp_path):
    root = fill(tmp_path)
    before = folder(root).listing_hash
    for hidden in ("train/.previews", "val/ant/.previews"):
        (root / hidden).mkdir()
        (root / hidden / "0.png").write_bytes((root / "val" / "bee" / "1.png").read_bytes())
    (root / "train" / "bee" / "._0.JPEG").write_bytes(b"notes of a file manager")
    assert folder(root).listing_hash == before


def test_a_test_image_is_its_normalised_centre(root):
    images, _ = next(folder(root).test_batches(1))
    pixels = Image.open(root / "val" / "ant" / "0.JPEG")
    short = min(pixels.size)
    width, height = (round(side * 32 / short) for side in pixels.size)
    pixels = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR), dtype=float)
    top, left = round((height - 28) / 2), round((width - 28) / 2)
    wanted = pixels[top : top + 28, left : left + 28] / 255
    wanted = (wanted - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    torch.testing.assert_close(
        images[0], torch.tensor(wanted).permute(2, 0, 1).float(), atol=0.1, rtol=0
    )


def test_augmentation_depends_on_the_generator_and_not_on_the_workers(root):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    images, labels = epoch_of(folder(root))
    assert images.shape == (15, 3, 28, 28)
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    again, _ = epoch_of(folder(root, workers=2))
    assert torch.equal(images, again)
    assert torch.equal(torch.random.get_rng_state(), before)
    other, _ = epoch_of(folder(root), seed=1)
    assert not torch.equal(images, other)
    plain, _ = epoch_of(folder(root), TrainingConfig(batch_size=4))
    assert torch.equal(plain, epoch_of(folder(root), TrainingConfig(batch_size=7), seed=1)[0])
    assert not torch.equal(images, plain)


def test_lighting_shifts_all_pixels_of_an_image_alike():
    pixels = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shifts = torch.stack([(Lighting(0.1)(pixels) - pixels).flatten(1) for _ in range(4000)])
    assert float(shifts.std(2).max()) < 1e-6
    shifts = shifts.mean(2)
    # Covariance of the components: V diag((0.1 sigma)^2) V^T.
    vectors = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    spreads = 0.1 * torch.tensor([0.2175, 0.0188, 0.0045])
    wanted = vectors @ torch.diag(spreads**2) @ vectors.T
    torch.testing.assert_close(shifts.T.cov(), wanted, rtol=0.1, atol=1e-6)


def test_it_trains_and_estimates_batch_norm_before_each_evaluation(root):
    trainer = Trainer(
        network(), folder(root), AUGMENTED, generator=torch.Generator().manual_seed(0)
    )
    assert trainer.steps_per_epoch == 3  # of 4 images, the last 3 are dropped
    seen = []
    norm = trainer.model[1]
    norm.register_forward_hook(
        lambda module, args, out: seen.append((module.training, args[0].mean((0, 2, 3)).detach()))
    )
    metrics = trainer.train_epoch()
    assert [is_training for is_training, _ in seen] == [True] * 5 + [False]
    estimated = torch.stack([mean for _, mean in seen[3:5]]).mean(0)
    torch.testing.assert_close(norm.running_mean, estimated)
    assert norm.momentum == 0.1
    assert 0 <= metrics.test_error <= 100
    assert trainer.train_epoch().epoch == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(tmp_path, workers):
    data = folder(fill(tmp_path / "images"), workers=workers)
    broken = tmp_path / "images" / "train" / "bee" / "2.JPEG"
    whole = broken.read_bytes()
    of_16_bits = io.BytesIO()  # clipped, it would be white
    Image.fromarray(np.full((30, 30), 1000, np.uint16)).save(of_16_bits, "png")
    for content in (whole[: len(whole) // 2], b"", b"not an image", of_16_bits.getvalue()):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"bee/2\.JPEG cannot be read") as error:
            epoch_of(data)
        assert "\n" not in str(error.value)


def test_a_missing_folder_or_class_is_told_before_training(root, tmp_path):
    with pytest.raises(InputError, match="holds train and val"):
        ImageFolder(tmp_path)
    with pytest.raises(InputError, match="imagenet"):
        load_dataset("imagenet", tmp_path)
    fill(tmp_path / "a")
    for file in (tmp_path / "a" / "val" / "cat").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="cat"):
        ImageFolder(tmp_path / "a")
    (tmp_path / "a" / "val" / "cat").rmdir()
    with pytest.raises(InputError, match="class 'cat' is in only one"):
        ImageFolder(tmp_path / "a")


def test_augmentation_of_the_other_kind_of_data_is_refused(root):
    with pytest.raises(InputError, match="use smallest_area"):
        Trainer(
            network(), folder(root), TrainingConfig(crop_padding=4), generator=torch.Generator()
        )
    digits = load_dataset("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for values in ({"smallest_area": 0.5}, {"lighting": 0.1}):
        with pytest.raises(InputError, match="use flip and crop_padding"):
            Trainer(model, digits, TrainingConfig(**values), generator=torch.Generator())
    with pytest.raises(InputError, match="crop_padding is at most 8 for images of 8 x 8 pixels, 9"):
        Trainer(model, digits, TrainingConfig(crop_padding=9), generator=torch.Generator())
