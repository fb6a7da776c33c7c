"""Sentences that warn of results which may mislead: a training stopped early, unlabelled images unlike the others."""

from math import log

import pandas as pd

from stages.pipeline.params import IMAGENET

# Share of the loss of guessing, ln C, above which training on the visible labels is not done.
_UNLEARNT_SHARE = 0.02

# How many times as far from the training images as the test images the unlabelled images may be.
_UNLIKE_ABOVE = 1.5
_COPIES_BELOW = 1e-4


def imagenet_sentence(source: str, weights: str | None) -> str:
    """Return a sentence if labels of the images have trained the weights that encoders start from."""
    if source != "stl10" or weights != IMAGENET:
        return ""
    return (
        "The images of STL-10 come from ImageNet, whose labels have trained the weights that all encoders start from, "
        "so this is no comparison with few labels."
    )


def with_warning(line: str, sentence: str) -> str:
    """Append a sentence to a stage's line of result, in a line of its own; an empty one changes nothing."""
    return f"{line}\nWARNING: {sentence}" if sentence else line


def early_stop_sentence(method: str, history: pd.DataFrame, classes: int, weight: float = 1.0) -> str:
    """Return a sentence if a training ended before it had learnt its labels, otherwise an empty text.

    With few labels, a network that is trained to its plateau predicts the labels of the augmented training images
    almost surely. So training was stopped early if its cross-entropy, averaged over the last tenth of the curve, is
    above a fiftieth of ln C, that of guessing among C classes.

    Args:
        method: Section of the parameters that sets the length of the training.
        history: Training curve with the column `cross_entropy`.
        classes: Number of classes C.
        weight: Weight of the cross-entropy in the loss; with 0 no label is learnt, and nothing is said.
    """
    if weight == 0:
        return ""
    loss = float(history["cross_entropy"].iloc[-max(1, len(history) // 10) :].mean()) / weight
    guessing = log(classes)
    if loss <= _UNLEARNT_SHARE * guessing:
        return ""
    return (
        f"{method} was stopped early: its training cross-entropy is still {loss:.2g} ({loss / guessing:.0%} of that of "
        f"guessing), so it may be better than it looks. Raise {method}.steps until this line is gone."
    )


def unlike_sentence(unlabeled_distance: float, test_distance: float) -> str:
    """Return a sentence if the unlabelled images are unlike the training images, otherwise an empty text.

    They are if their `nearest_distance` to the training images is more than 1.5 times that of the test images. Test
    images that are copies of training images, or features that are all alike, are no measure, and nothing is said.

    Args:
        unlabeled_distance: Distance of the unlabelled images.
        test_distance: Distance of the test images.
    """
    if test_distance < _COPIES_BELOW or unlabeled_distance <= _UNLIKE_ABOVE * test_distance:
        return ""
    times = unlabeled_distance / test_distance
    return (
        f"The unlabelled images are unlike the labelled ones: they lie {times:.1f} times as far from the nearest "
        "training image as the test images do (median cosine distance of features), so expect less of them."
    )
