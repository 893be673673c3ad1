"""Tensors in, tensors out: the operations of one round; knows no graph library and no module."""
