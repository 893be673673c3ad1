"""The list of models as `mpnn-arch models` shows it.

It is written out, since the classes that it is computed from import torch and PyG, which takes
seconds; a test compares the two.
"""

from __future__ import annotations

#: Name, description, default graph, shape of the input, multiply-adds of the dense model.
ROWS: tuple[tuple[str, str, str, str, int], ...] = (
    (
        "cnn1d",
        "3 conv rounds of 1x3 and 128 along a signal",
        "ws_flex:64,12,0.15,0",
        "3 x 1 x 1024",
        46_007_552,
    ),
    (
        "cnn8",
        "6 conv rounds of 3x3 in stages 64, 128, 256",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        166_438_912,
    ),
    (
        "efficientnet_b0",
        "MBConv of depths 1-2-2-3-3-4-1; expansion and projection are rounds",
        "ws_flex:16,5,0.15,0",
        "3 x 224 x 224",
        385_824_092,
    ),
    (
        "mlp",
        "3 rounds of 512 between a dense stem and head",
        "ws_flex:64,12,0.15,0",
        "3072",
        2_364_416,
    ),
    (
        "mlp_mixer",
        "Mixer-S/16: the channel-mixing MLPs are rounds",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        3_776_958_464,
    ),
    (
        "mobilenet_v1",
        "13 depth-wise convs, each followed by a 1x1 round",
        "ws_flex:16,5,0.15,0",
        "3 x 224 x 224",
        568_740_352,
    ),
    (
        "resnet20",
        "for 32x32: basic blocks 3-3-3 of 16 to 64",
        "ws_flex:16,5,0.15,0",
        "3 x 32 x 32",
        40_813_184,
    ),
    (
        "resnet34",
        "basic blocks 3-4-6-3 of 64 to 512",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        3_663_761_408,
    ),
    (
        "resnet34_sep",
        "ResNet-34, each 3x3 depth-wise followed by a 1x1 round",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        553_614_592,
    ),
    (
        "resnet50",
        "bottlenecks 3-4-6-3 of 256 to 2048, inner width a quarter",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        4_089_184_256,
    ),
    (
        "vgg11",
        "7 conv rounds of 3x3 in stages 128, 256, 512, 512",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        7_485_968_384,
    ),
    (
        "vit",
        "ViT-Ti: attention projections and MLP are rounds",
        "ws_flex:64,12,0.15,0",
        "3 x 224 x 224",
        1_253_683_200,
    ),
)
