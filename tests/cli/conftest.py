import pytest

from mpnn_arch import cli


@pytest.fixture
def run(capsys):
    """Run ``mpnn-arch arguments``; gives exit code, standard output and standard error."""

    def made(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return made
