"""The landscape as one figure, and the published results at hand as a list."""

from pathlib import Path

import numpy as np
import pytest

from mpnn_arch import InputError
from mpnn_arch.analysis import draw_landscape, landscape, published_results
from mpnn_arch.io.figures import new_figure

ROWS = Path(__file__).parents[1] / "published_rows"


def test_the_landscape_is_drawn_bin_by_bin(made_up):
    table = made_up("bowl")
    ax = draw_landscape(table)
    (image,) = ax.images
    drawn = image.get_array()
    bins = landscape(table)
    assert drawn.count() == len(bins)
    best = bins.loc[bins["mean"].idxmin()]
    row, column = np.unravel_index(np.ma.argmin(drawn), drawn.shape)
    assert (column, row) == (best["c_bin"], best["l_bin"])
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "sweet spot, paper's rule" in legend


def test_it_draws_into_axes_that_are_given(made_up):
    ax = new_figure(4, 3).add_subplot()
    assert draw_landscape(made_up("bowl", count=52), "fine", ax=ax) is ax
    assert ax.images[0].get_array().shape == (135, 135)


def test_one_training_seed_has_a_landscape_and_no_sweet_spot(made_up):
    ax = draw_landscape(made_up("bowl", count=52, seeds=1))
    assert ax.images
    assert not ax.patches


def test_no_such_resolution(made_up):
    with pytest.raises(InputError, match="no resolution 'medium'"):
        draw_landscape(made_up("bowl", count=52), "medium")


def test_published_results_are_one_a_network():
    found = {one.name: one.table for one in published_results(ROWS)}
    assert set(found) == {"mlp_cifar10_epoch200", "resnet34_imagenet_epoch100"}
    assert all(len(table) for table in found.values())


def test_published_results_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no published results in"):
        published_results(tmp_path)
