"""Data, configuration and the training loop."""
