"""The operations of one round on plain tensors: no graph library and no ``nn.Module``."""
