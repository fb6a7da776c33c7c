"""Encoders, projectors and classifiers: torchvision's ResNets, and a narrow one that two CPU cores can train."""

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from stages.models.weights import load_weights


class Encoder(nn.Module):
    """A network that maps images to features.

    Attributes:
        name: Name of the architecture; see `build_encoder`.
        stem: Name of the first layers; see `build_encoder`.
        body: The network itself.
        width: Length of a feature vector.
    """

    def __init__(self, name: str, stem: str, body: nn.Module, width: int) -> None:
        super().__init__()
        self.name, self.stem, self.width = name, stem, width
        self.body = body

    def forward(self, views: Tensor) -> Tensor:
        """Map (N, 3, H, W) views in 0..1 to (N, width) features, by global average pooling."""
        features: Tensor = self.body((views - 0.5) * 4)
        return features


def build_encoder(name: str, stem: str, weights: str | None = None) -> Encoder:
    """Build an encoder with random weights, drawn from torch's global generator, or with some that exist.

    Args:
        name: `narrow` (one residual block a stage, 32 to 256 channels, 1.2 million weights), or a ResNet of
            torchvision: `resnet18`, `resnet34` or `resnet50` (He et al. 2016).
        stem: `conv7_pool` as in the paper, for large images. For small ones a 3x3 convolution: `conv3` (stride 1, as in
            He et al. 2016, section 4.2), `conv3_stride2`, or `conv3_pool` (stride 1, then max-pooling).
        weights: Weights to start from; see `load_weights`. None for random ones.

    Raises:
        UserError: The weights cannot be read, or are those of another architecture.
    """
    body: nn.Module
    if name == "narrow":
        channels = 32
        body = nn.Sequential(_stem(stem, channels), *_narrow_blocks(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        width = channels * 8
        for module in body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        resnet = torchvision.models.get_model(name, weights=None)
        width = resnet.fc.in_features
        resnet.fc = nn.Identity()
        resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool = _stem(stem, 64)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        body = resnet
    if weights is not None:
        load_weights(body, name, weights)
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


def build_projector(width: int, layers: Sequence[int]) -> nn.Sequential:
    """Build the projector of Barlow Twins: linear layers with batch normalisation and ReLU between them.

    Args:
        width: Length of the features that come in.
        layers: Length of the output of each linear layer; the last is the size of the cross-correlation matrix.
    """
    modules: list[nn.Module] = []
    for size in layers[:-1]:
        modules += [nn.Linear(width, size, bias=False), nn.BatchNorm1d(size), nn.ReLU(inplace=True)]
        width = size
    return nn.Sequential(*modules, nn.Linear(width, layers[-1], bias=False))


class Classifier(nn.Module):
    """An encoder and a linear head.

    Attributes:
        encoder: Encoder that maps images to features.
        head: Linear layer that maps features to one logit per class.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.width, classes)

    def forward(self, views: Tensor) -> Tensor:
        """Map (N, 3, H, W) views in 0..1 to (N, classes) logits."""
        logits: Tensor = self.head(self.encoder(views))
        return logits


def build_classifier(encoder: str, stem: str, classes: int, seed: int, weights: str | None = None) -> Classifier:
    """Build a classifier with random weights, the same for the same `seed`, but for the encoder's if there are some."""
    torch.manual_seed(seed)
    return Classifier(build_encoder(encoder, stem, weights), classes)
