"""File output: atomic writes, tensor files, figures."""
