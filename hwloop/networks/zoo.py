"""Networks of the literature, as factories without arguments."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def lenet() -> nn.Sequential:
    """LeNet of the Caffe examples: 430,500 weights for 28×28 grey images and 10 classes."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(800, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, 10),
        )
    )


def convnet() -> nn.Sequential:
    """ConvNet of the Caffe examples (``cifar10_full``): 89,440 weights for 32×32 colour images, 10 classes.

    Its two response normalisations are left out: they are made for pixels of 0 to 255, and with pixels of
    0 to 1 they divide by 1 to within rounding.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 32, 5, padding=2),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
            conv3=nn.Conv2d(32, 64, 5, padding=2),
            relu3=nn.ReLU(),
            pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            fc=nn.Linear(1024, 10),
        )
    )


class Normalise(nn.Module):
    """Subtracts a mean from each channel and divides it by a standard deviation.

    The figures belong to the network and not to its weights, so they are in no weights file.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return images ``[n, channels, height, width]`` of 0 to 1 as the network wants them."""
        return (x - self.mean) / self.std


IMAGENET_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue over ImageNet, of pixels of 0 to 1."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut around them (He et al., CVPR 2016).

    Where the shape changes, the shortcut is a 1×1 convolution with batch norm, else the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if (inputs, stride) != (outputs, 1):
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return both branches added."""
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(inner + self.downsample(x))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Return blocks in a row, of which the first changes the shape."""
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def resnet20() -> nn.Sequential:
    """ResNet-20 for 32×32 colour images and 10 classes, with 1×1 shortcuts: 270,896 weights."""
    return nn.Sequential(
        OrderedDict(
            normalise=Normalise(*IMAGENET_COLOURS),
            conv1=nn.Conv2d(3, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16, eps=1e-3),
            relu1=nn.ReLU(),
            res1=_stage(16, 16, 3, 1),
            res2=_stage(16, 32, 3, 2),
            res3=_stage(32, 64, 3, 2),
            classifier=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
        )
    )


def resnet18() -> nn.Sequential:
    """ResNet-18 for 32×32 colour images and 10 classes: 11,164,352 weights."""
    stem = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(3, 64, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(64), relu=nn.ReLU()
    )
    return nn.Sequential(stem | _resnet18_stages(10))


def resnet18_imagenet() -> nn.Sequential:
    """ResNet-18 for 224×224 colour images and 1,000 classes: 11,678,912 weights."""
    stem = OrderedDict[str, nn.Module](
        normalise=Normalise(*IMAGENET_COLOURS),
        conv1=nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, 2, padding=1),
    )
    return nn.Sequential(stem | _resnet18_stages(1000))


def _resnet18_stages(classes: int) -> OrderedDict[str, nn.Module]:
    """Return what follows the stem."""
    return OrderedDict(
        layer1=_stage(64, 64, 2, 1),
        layer2=_stage(64, 128, 2, 2),
        layer3=_stage(128, 256, 2, 2),
        layer4=_stage(256, 512, 2, 2),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(512, classes),
    )


def vgg16() -> nn.Sequential:
    """VGG-16 for 32×32 colour images and 10 classes: 14,715,584 weights.

    As usual for images so small it has batch norms, and one linear layer instead of three.
    """
    net: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 3
    for stage, (outputs, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for which in range(1, convolutions + 1):
            place = f"{stage}_{which}"
            net[f"conv{place}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            net[f"bn{place}"] = nn.BatchNorm2d(outputs)
            net[f"relu{place}"] = nn.ReLU()
            inputs = outputs
        net[f"pool{stage}"] = nn.MaxPool2d(2)
    net["flatten"] = nn.Flatten()
    net["fc"] = nn.Linear(512, 10)
    return nn.Sequential(net)
