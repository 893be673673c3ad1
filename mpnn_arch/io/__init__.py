"""File output: atomic writes, locks on folders, tensor files, figures."""
