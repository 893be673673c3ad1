"""The exception for invalid user input."""


class InputError(ValueError):
    """Invalid input, described in one sentence: the value, the constraint and the fix.

    The command line prints the sentence without a traceback and exits with 2.
    """
