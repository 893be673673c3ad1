"""The exceptions for invalid user input."""

from __future__ import annotations


class InputError(ValueError):
    """Invalid input, described in one sentence: the value, the constraint and the fix.

    The command line prints the sentence without a traceback and exits with 2.

    Example:
        >>> from mpnn_arch import graphs
        >>> try:
        ...     graphs.ring(8, degree=9)
        ... except ValueError as error:
        ...     print(type(error).__name__, "-", error)
        ...
        InputError - degree is between 2 and 7, 9 was given; choose a value in that range
    """


class ShapeError(InputError, RuntimeError):
    """A tensor of a shape that a layer does not take: a ``RuntimeError`` too, as torch raises."""


class DtypeError(InputError, RuntimeError):
    """A parameter of another dtype than its layer: a ``RuntimeError`` too, as torch raises."""

    @classmethod
    def of_bias(cls, bias: object, sums: object) -> DtypeError:
        """The error for a bias of another dtype than the sums that it is added to."""
        return cls(
            f"the bias is {bias} and what it is added to {sums}; convert the whole layer, as by "
            "layer.to(dtype)"
        )


class StateDictError(InputError, RuntimeError):
    """Weights that do not belong to a module: a ``RuntimeError`` too, as torch raises there."""
