"""The exceptions for invalid user input."""


class InputError(ValueError):
    """Invalid input, described in one sentence: the value, the constraint and the fix.

    The command line prints the sentence without a traceback and exits with 2.
    """


class StateDictError(InputError, RuntimeError):
    """Weights that do not belong to a module: a ``RuntimeError`` too, as torch raises there."""
