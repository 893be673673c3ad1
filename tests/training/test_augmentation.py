import pytest
import torch

from mpnn_arch.training.augmentation import Augmentation
from mpnn_arch.training.config import TrainingConfig


def draw(num_images=40, seed=0, **values):
    generator = torch.Generator().manual_seed(seed)
    return Augmentation.draw(TrainingConfig(**values), num_images, generator)


@pytest.fixture
def images(generator):
    return torch.randn(40, 3, 6, 5, generator=generator)


def by_hand(image, flipped, top, left, padding):
    """The window at (top, left) of the mirrored image within its border of zeros."""
    channels, height, width = image.shape
    image = image.flip(2) if flipped else image
    wide = torch.zeros(channels, height + 2 * padding, width + 2 * padding)
    wide[:, padding : padding + height, padding : padding + width] = image
    return wide[:, top : top + height, left : left + width]


def test_nothing_is_drawn_where_nothing_is_asked_for():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Augmentation.draw(TrainingConfig(), 40, generator) is None
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    "values", [{"flip": True}, {"crop_padding": 4}, {"flip": True, "crop_padding": 2}]
)
def test_a_batch_is_flipped_and_cropped_image_by_image(images, values):
    padding = values.get("crop_padding", 0)
    augment = draw(**values)
    made = augment(images, 0)
    assert made.shape == images.shape
    flipped = augment.flipped if augment.flipped is not None else torch.zeros(40, dtype=torch.bool)
    offsets = augment.offsets
    # A flip of the columns of the window is a flip of the image and a window from the other side.
    for k, image in enumerate(images):
        top, left = (0, 0) if offsets is None else offsets[:, k].tolist()
        if flipped[k]:
            left = 2 * padding - left
        wanted = by_hand(image, flipped[k], top, left, padding)
        assert torch.equal(made[k], wanted)
    # Both parts of the batch are the whole's, so the batch size changes nothing.
    assert torch.equal(torch.cat([augment(images[:16], 0), augment(images[16:], 16)]), made)


def test_all_places_and_both_sides_are_drawn():
    augment = draw(2000, flip=True, crop_padding=4)
    assert 0.45 < augment.flipped.double().mean() < 0.55
    assert set(augment.offsets.flatten().tolist()) == set(range(9))
    counts = torch.bincount(augment.offsets[0])
    assert counts.min() > 150
    assert not torch.equal(augment.offsets[0], augment.offsets[1])


def test_the_same_state_of_the_generator_gives_the_same_images(images):
    same, other = draw(flip=True, crop_padding=4), draw(flip=True, crop_padding=4)
    assert torch.equal(same(images, 0), other(images, 0))
    assert not torch.equal(draw(seed=1, flip=True)(images, 0), same(images, 0))
