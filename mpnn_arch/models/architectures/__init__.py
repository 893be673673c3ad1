"""The architectures, one family a file; each registers its models."""

from mpnn_arch.models.architectures import cnn, efficientnet, mlp, resnet

__all__ = ["cnn", "efficientnet", "mlp", "resnet"]
