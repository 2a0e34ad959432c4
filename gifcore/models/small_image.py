"""The deep networks of the GIF paper for small images (32 x 32), any (C, H, W); with batch norm.

Against the ImageNet versions: a 3x3 stem of stride 1 without max-pooling, one linear layer behind
a global average. Their buffers are the running statistics of batch norm alone.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]  # (C, H, W)


def resnet18(shape: Shape, n_classes: int) -> nn.Module:
    """ResNet-18: 11,173,962 parameters on 32x32x3 with 10 classes, 11,172,810 with one channel.

    Reference: He et al. 2016 (arXiv 1512.03385), section 4.2 for the small-image stem.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = _convolution(shape[0], 64, 3)
    layers["relu"] = nn.ReLU()
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            stride = 2 if stage > 1 and block == 1 else 1
            layers[f"stage{stage}_block{block}"] = ResidualBlock(channels, width, stride)
            channels = width
    return nn.Sequential(layers | _head(channels, n_classes))


def vgg11_bn(shape: Shape, n_classes: int) -> nn.Module:
    """VGG-11 with batch norm and one linear layer: 9,231,114 on 32x32x3 with 10 classes.

    Pooling rounds up, so that images below 32 pixels fit.
    Reference: Simonyan and Zisserman 2015 (arXiv 1409.1556), configuration A.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, number = shape[0], 0
    for stage, widths in enumerate(((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2), start=1):
        for width in widths:
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, padding=1)
            layers[f"norm{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            channels = width
        layers[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(layers | _head(channels, n_classes))


def shufflenet_v2(shape: Shape, n_classes: int) -> nn.Module:
    """ShuffleNetV2 1x, stages of 4, 8 and 4 units: 1,263,854 on 32x32x3 with 10 classes.

    Reference: Ma et al. 2018 (arXiv 1807.11164), table 5 and figure 3.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = _convolution(shape[0], 24, 3)
    layers["relu1"] = nn.ReLU()
    channels = 24
    for stage, (width, units) in enumerate(((116, 4), (232, 8), (464, 4)), start=2):
        layers[f"stage{stage}_down"] = DownUnit(channels, width)
        for unit in range(2, units + 1):
            layers[f"stage{stage}_unit{unit}"] = ShuffleUnit(width)
        channels = width
    layers["conv5"] = _convolution(channels, 1024, 1)
    layers["relu2"] = nn.ReLU()
    return nn.Sequential(layers | _head(1024, n_classes))


class ResidualBlock(nn.Module):
    """relu(x + two 3x3 convolutions); a 1x1 convolution on x where its shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels, width, 3, stride)
        self.second = _convolution(width, width, 3)
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


class DownUnit(nn.Module):
    """Halves the image: two branches with a stride-2 depthwise convolution, shuffled."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.left = nn.Sequential(
            _depthwise(channels, 2), _convolution(channels, half, 1), nn.ReLU()
        )
        self.right = _branch(channels, half, 2)

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(torch.cat([self.left(x), self.right(x)], dim=1))


class ShuffleUnit(nn.Module):
    """One half of the channels passes, the other half goes through a branch; shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = _branch(channels // 2, channels // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x.chunk(2, dim=1)
        return _shuffled(torch.cat([passed, self.branch(worked)], dim=1))


def _branch(channels: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        _convolution(channels, width, 1),
        nn.ReLU(),
        _depthwise(width, stride),
        _convolution(width, width, 1),
        nn.ReLU(),
    )


def _convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution without bias, then batch norm."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(width)))


def _depthwise(channels: int, stride: int) -> nn.Module:
    """A 3x3 convolution of every channel on its own, then batch norm."""
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels)))


def _shuffled(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels."""
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def _head(channels: int, n_classes: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        average=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(channels, n_classes),
    )
