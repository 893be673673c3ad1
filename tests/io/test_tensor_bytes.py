"""The bytes of tensors of any strides."""

import pytest
import torch

from mpnn_arch.io.tensor_bytes import tensor_bytes

NUMBERS = torch.arange(24, dtype=torch.float32)
TENSORS = {
    "contiguous": NUMBERS.view(2, 3, 4),
    "transposed": NUMBERS.view(4, 6).T,
    "a part": NUMBERS[5:17:3],
    "images of one pixel": NUMBERS.view(8, 1, 1, 3).permute(0, 3, 1, 2),
    "one number of a column": NUMBERS.view(4, 6)[2:3, 1],
    "no axis": NUMBERS[7],
    "empty": NUMBERS.view(4, 6)[:0],
    "bfloat16": NUMBERS.bfloat16().view(6, 4).T,
    "learned": NUMBERS.clone().requires_grad_(True),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_they_are_those_of_the_numbers_in_order(kind):
    tensor = TENSORS[kind]
    copy = torch.empty(tensor.numel(), dtype=tensor.dtype)
    copy.copy_(tensor.detach().reshape(-1))
    assert torch.equal(tensor_bytes(tensor), copy.view(torch.uint8))
