"""The plain architectures for any (C, H, W); readable module names, no buffers, no dropout."""

import math
from collections import OrderedDict

from torch import nn

Shape = tuple[int, int, int]  # (C, H, W)


def tinynet(shape: Shape, n_classes: int) -> nn.Module:
    """Four 3x3 stride-2 convolutions 32-64-128-256 with ReLU, then linear: 398,090 on 28x28x1.

    Reference: the backdoor experiment of the GIF paper.
    """
    channels, *size = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate((32, 64, 128, 256), start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        channels, size = width, [(side + 1) // 2 for side in size]
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * math.prod(size), n_classes)
    return nn.Sequential(layers)


def fcn(shape: Shape, n_classes: int) -> nn.Module:
    """Three fully connected layers, 128-64-classes, with ReLU."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            linear1=nn.Linear(math.prod(shape), 128),
            relu1=nn.ReLU(),
            linear2=nn.Linear(128, 64),
            relu2=nn.ReLU(),
            linear3=nn.Linear(64, n_classes),
        )
    )


def lenet(shape: Shape, n_classes: int) -> nn.Module:
    """LeNet-5 with ReLU and max pooling: convolutions 6-16, linear 120-84-classes.

    Pooling rounds up and the second convolution is padded too, so that small images fit.
    Reference: LeCun et al. 1998.
    """
    channels, *size = shape
    pooled = math.prod((side + 3) // 4 for side in size)  # two halvings, each rounded up
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 6, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2, ceil_mode=True),
            conv2=nn.Conv2d(6, 16, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2, ceil_mode=True),
            flatten=nn.Flatten(),
            linear1=nn.Linear(16 * pooled, 120),
            relu3=nn.ReLU(),
            linear2=nn.Linear(120, 84),
            relu4=nn.ReLU(),
            linear3=nn.Linear(84, n_classes),
        )
    )


def logistic(shape: Shape, n_classes: int) -> nn.Module:
    """Multinomial logistic regression: one linear layer, a convex objective."""
    linear = nn.Linear(math.prod(shape), n_classes)
    return nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=linear))
