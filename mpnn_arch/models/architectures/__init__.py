"""The architectures, one family per file; each file registers its models."""

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
