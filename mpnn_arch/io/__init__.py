"""Writing files: whole or absent, tensors, figures."""
