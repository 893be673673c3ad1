"""The one error a user's input can raise."""


class InputError(ValueError):
    """Bad input, told in one sentence: the value, the limit, and the mend.

    The command line prints the sentence without a traceback and exits with 2.
    """
