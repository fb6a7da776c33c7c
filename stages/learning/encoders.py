"""Encoders, projectors and classifiers: torchvision's ResNets, and a narrow one that two CPU cores can train."""

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

ENCODERS = ("narrow", "resnet18", "resnet34", "resnet50")
STEMS = ("conv7_pool", "conv3_pool", "conv3_stride2", "conv3")


class Encoder(nn.Module):
    """Images in, features out.

    Attributes:
        name, stem: what `build_encoder` made it from.
        width: length of a feature vector.
    """

    def __init__(self, name: str, stem: str, body: nn.Module, width: int) -> None:
        super().__init__()
        self.name, self.stem, self.width = name, stem, width
        self.body = body

    def forward(self, views: Tensor) -> Tensor:
        """(N, 3, H, W) views in 0..1 to (N, width) features, after global average pooling."""
        return self.body((views - 0.5) * 4)


def build_encoder(name: str, stem: str) -> Encoder:
    """A new encoder with random weights, drawn from torch's global generator.

    Args:
        name: `narrow` (one residual block a stage, 32 to 256 channels, 1.2 million weights), or a ResNet of torchvision
            (He et al. 2016).
        stem: `conv7_pool` as in the paper, for large images. For small ones a 3x3 convolution: `conv3` (stride 1, as in
            He et al. 2016, section 4.2), `conv3_stride2`, or `conv3_pool` (stride 1, then max-pooling).
    """
    channels = 32 if name == "narrow" else 64
    if name == "narrow":
        body = nn.Sequential(_stem(stem, channels), *_narrow_blocks(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = channels * 8
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        body = torchvision.models.get_model(name, weights=None)
        width = body.fc.in_features
        body.fc = nn.Identity()
        body.conv1, body.bn1, body.relu, body.maxpool = _stem(stem, channels)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    return Encoder(name, stem, body, width).to(memory_format=torch.channels_last)


def _stem(stem: str, channels: int) -> nn.Sequential:
    kernel, stride = (7, 2) if stem == "conv7_pool" else (3, 2 if stem == "conv3_stride2" else 1)
    first = nn.Conv2d(3, channels, kernel, stride, kernel // 2, bias=False)
    pool = nn.MaxPool2d(3, 2, 1) if stem.endswith("pool") else nn.Identity()
    return nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), pool)


def _narrow_blocks(channels: int) -> list[BasicBlock]:
    blocks = [BasicBlock(channels, channels)]
    for _ in range(3):
        shortcut = nn.Sequential(nn.Conv2d(channels, channels * 2, 1, 2, bias=False), nn.BatchNorm2d(channels * 2))
        blocks.append(BasicBlock(channels, channels * 2, 2, shortcut))
        channels *= 2
    return blocks


def build_projector(width: int, layers: list[int]) -> nn.Sequential:
    """The projector of Barlow Twins: linear layers with batch normalisation and ReLU between them, none after the last.

    Args:
        width: length of the features that come in.
        layers: length after each linear layer; the last is the size of the cross-correlation matrix.
    """
    modules: list[nn.Module] = []
    for size in layers[:-1]:
        modules += [nn.Linear(width, size, bias=False), nn.BatchNorm1d(size), nn.ReLU(inplace=True)]
        width = size
    return nn.Sequential(*modules, nn.Linear(width, layers[-1], bias=False))


class Classifier(nn.Module):
    """An encoder and a linear head.

    Attributes:
        encoder: images to features.
        head: features to one logit per class.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, classes)

    def forward(self, views: Tensor) -> Tensor:
        """(N, 3, H, W) views in 0..1 to (N, classes) logits."""
        return self.head(self.encoder(views))
