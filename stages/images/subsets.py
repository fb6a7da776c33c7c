"""Which images take part: the unlabelled sample, the visible labels, the images to look at."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stages.files import UserError


def draw_unlabeled(available: int, size: int | None, seed: int) -> NDArray[np.int64]:
    """Indices of `size` of the `available` unlabelled images (None: all), sorted, none twice.

    Raises:
        UserError: more are asked for than there are.
    """
    size = available if size is None else size
    if size > available:
        raise UserError(
            f"unlabeled.size is {size}, but the image set has {available} unlabelled images: ask for at most {available}"
        )
    return np.sort(np.random.default_rng([seed, 1]).permutation(available)[:size])


def draw_labeled(
    labels: NDArray[np.int64], ratio: float, seed: int, folds: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Indices of the training images whose label is visible, sorted.

    One order of all images is drawn from `seed`, in which each class recurs as evenly as its share allows; the first
    round(ratio * N) of it are visible. So a sample is stratified to within one image per class, and a smaller ratio is
    contained in a larger one. Where a source has predefined folds, those of fold `seed` modulo their number come first: so
    ratio 0.2 of STL-10 shows exactly one of its ten folds of 1,000.

    Args:
        labels: (N,) class numbers 0..C-1.
        ratio: share of labels to show, in (0, 1].
        seed: of the order.
        folds: (F, M) indices into the labels, or None.

    Raises:
        UserError: `ratio`, or the fold, leaves a class without a visible label.
    """
    first = np.arange(0) if folds is None else folds[seed % len(folds)]
    rest = np.setdiff1d(np.arange(len(labels)), first)
    order = np.concatenate([part[_label_order(labels[part], seed)] for part in (first, rest)])
    count = int(Fraction(str(ratio)) * len(labels) + Fraction(1, 2))
    classes = np.unique(labels)
    if count == 0 or len(np.unique(labels[order[:count]])) < len(classes):
        first_of_each = [int(np.argmax(labels[order] == number)) for number in classes]
        smallest = (max(first_of_each) + 1) / len(labels)
        absent = np.setdiff1d(classes, labels[order[:count]])[0]
        source = "" if folds is None else f", fold {seed % len(folds)} of the image set first,"
        raise UserError(
            f"label_ratio is {ratio:g}, which shows {count} of {len(labels)} labels{source} and leaves class {absent} with none: "
            f"the smallest ratio that works is {np.ceil(smallest * 1e4) / 1e4:g}"
        )
    return np.sort(order[:count])


def _label_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng([seed, 2])
    position = np.empty(len(labels))
    for number in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == number))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def pick_evenly(labels: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Indices of `size` images, all classes alike as far as they reach, sorted; all images if there are fewer."""
    order = _label_order(labels, seed)
    return np.sort(order[:size])


def unlabeled_pool(
    unlabeled: NDArray[np.uint8], sample: NDArray[np.int64], train: NDArray[np.uint8], labeled: NDArray[np.int64]
) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """The unlabelled images in use: the sample, and the training images whose label is not visible.

    Args:
        unlabeled: (M, H, W, 3) unlabelled images.
        sample: indices into them.
        train: (N, H, W, 3) training images.
        labeled: indices of those whose label is visible.

    Returns:
        both arrays as they are, each with the indices of its images that are in use.
    """
    return [(unlabeled, sample), (train, np.setdiff1d(np.arange(len(train)), labeled, assume_unique=True))]
