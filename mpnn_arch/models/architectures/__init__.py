"""The architectures, one family per file; each file registers its models."""

from mpnn_arch.models.architectures import (
    cnn,
    cnn1d,
    efficientnet,
    mixer,
    mlp,
    mobilenet,
    resnet,
    vgg,
    vit,
)

__all__ = ["cnn", "cnn1d", "efficientnet", "mixer", "mlp", "mobilenet", "resnet", "vgg", "vit"]
