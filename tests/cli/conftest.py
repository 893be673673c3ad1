import pytest

from mpnn_arch import cli


@pytest.fixture
def run(capsys):
    """Run ``mpnn-arch arguments``; returns exit code, standard output and standard error."""

    def run_command(*arguments):
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command
