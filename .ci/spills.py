"""What a compiler moves between registers in the loops of the kernels' tiles, by its assembly.

A tile sums in registers. Where a compiler keeps its sums on the stack, or moves them about, results
are right and take up to four times as long, which no test of values sees.
"""

from __future__ import annotations

import re
from collections import defaultdict

# On x86 and on ARM: products of vectors, and their moves between registers, to the stack or back.
PRODUCT = re.compile(r"\s+(vfmadd|fmla\s+v)")
MOVE = re.compile(
    r"\s+(vmov[au]p[sd]\s.*\(%r[sb]p|vmovap[sd]\s+%[xyz]mm\d+, %[xyz]mm\d+"
    r"|(ldr|str|ldp|stp)\s+q.*\[sp|mov\s+v\d+\.16b)"
)
LABEL = re.compile(r"(?!\.Ltmp)([\w.$]+):")
LEAST_PRODUCTS = 4  # between two labels; what has fewer is no loop of a tile


def spilled(assembly: str) -> list[str]:
    """Tiles that move more vectors than one for every two products, in words.

    Raises:
        ValueError: there is no tile.
    """
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    function, products, moves = "", 0, 0
    for line in [*assembly.splitlines(), "end:"]:
        if label := LABEL.match(line):
            if "_tile" in function and products >= LEAST_PRODUCTS:
                counts[function][0] += products
                counts[function][1] += moves
            products = moves = 0
            if not label[1].startswith(".L"):
                function = label[1]
        products += bool(PRODUCT.match(line))
        moves += bool(MOVE.match(line))
    if not counts:
        raise ValueError("no tile was found in the assembly")
    return [
        f"{function}: {moves} moves of vectors beside {products} products"
        for function, (products, moves) in counts.items()
        if moves * 2 > products
    ]
