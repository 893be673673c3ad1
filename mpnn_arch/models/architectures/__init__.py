"""The architectures, one family a file; each registers its models."""

from mpnn_arch.models.architectures import (
    cnn,
    efficientnet,
    mixer,
    mlp,
    mobilenet,
    resnet,
    vgg,
    vit,
)

__all__ = ["cnn", "efficientnet", "mixer", "mlp", "mobilenet", "resnet", "vgg", "vit"]
