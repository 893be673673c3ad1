"""One round of message exchange, as a PyTorch Geometric ``MessagePassing`` module."""
