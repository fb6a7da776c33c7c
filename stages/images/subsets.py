"""Which images take part: the unlabelled sample, the visible labels, an even choice of training images."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stages.pipeline.errors import UserError
from stages.pipeline.seeds import derive_seed


def draw_unlabeled(available: int, size: int | None, seed: int) -> NDArray[np.int64]:
    """Draw the unlabelled sample.

    Args:
        available: Number of unlabelled images in the image set.
        size: Number of images to draw without replacement; None for all of them.
        seed: Random seed for the draw.

    Returns:
        (size,) indices of the drawn images, sorted.

    Raises:
        UserError: `size` exceeds `available`.
    """
    size = available if size is None else size
    if size > available:
        raise UserError(
            f"unlabeled.size is {size}, but the image set has {available} unlabelled images: "
            f"ask for at most {available}"
        )
    return np.sort(np.random.default_rng(seed).permutation(available)[:size])


def draw_labeled(
    labels: NDArray[np.int64],
    ratio: float,
    seed: int,
    draw: int = 0,
    folds: NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
) -> NDArray[np.int64]:
    """Draw the training images whose label is visible.

    One order of all N images is drawn from `seed` and `draw`, in which each class recurs as evenly as its share allows,
    and the first round(ratio * N) images of it are labelled. So every draw is stratified to within one image per class,
    and a smaller ratio is contained in a larger one. If the image set has predefined folds, the images of fold `seed`
    come first in draw 0: ratio 0.2 of STL-10 is exactly one of its ten folds of 1,000. Further draws, and seeds for
    which there is no fold, are of all images, so that no two of them are the same.

    Args:
        labels: (N,) class numbers 0..C-1 of the training images.
        ratio: Share of the labels to show, in (0, 1].
        seed: The parameter `seed`.
        draw: Number of the draw: 0 for the main run, 1, 2, ... for the draws of the study.
        folds: (F, M) predefined folds as indices of training images, or None.
        classes: Names of the C classes; if there are none, the numbers that occur are named.

    Returns:
        Indices of the labelled images, sorted.

    Raises:
        UserError: A class has no label, or the ratio or the fold leaves it without a visible one; the message names the
            smallest ratio that works.
    """
    _require_labels(labels)
    classes = classes or [str(number) for number in range(labels.max() + 1)]
    unseen = np.setdiff1d(np.arange(len(classes)), labels)
    if len(unseen):
        raise UserError(
            f"class {classes[unseen[0]]!r} has test images, but none to train on: label one, on plots/label.html or in "
            "labels.csv, or take its test images away"
        )
    has_fold = folds is not None and draw == 0 and seed < len(folds)
    first = folds[seed] if folds is not None and has_fold else np.arange(0)
    rest = np.setdiff1d(np.arange(len(labels)), first)
    order_seed = derive_seed(seed, "label", draw)
    order = np.concatenate([part[_stratified_order(labels[part], order_seed)] for part in (first, rest)])
    # As a fraction of the decimal digits, since 0.145 * 100 is below 14.5 in binary.
    count = int(Fraction(str(ratio)) * len(labels) + Fraction(1, 2))

    absent = np.setdiff1d(np.arange(len(classes)), labels[order[:count]])
    if len(absent):
        first_of_each = [int(np.argmax(labels[order] == number)) for number in range(len(classes))]
        smallest = (max(first_of_each) + 1) / len(labels)
        source = f", fold {seed} of the image set first," if has_fold else ""
        raise UserError(
            f"a label ratio of {ratio:g} shows {count} of {len(labels)} labels{source} and leaves class "
            f"{classes[absent[0]]!r} with none: the smallest ratio that works is {np.ceil(smallest * 1e4) / 1e4:g}"
        )
    return np.sort(order[:count])


def _stratified_order(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a random order of images in which each class recurs at even distances, as indices into `labels`."""
    rng = np.random.default_rng(seed)
    position = np.empty(len(labels))
    for number in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == number))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


def pick_evenly(labels: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Pick images in which the classes have the same shares as in all of them.

    Args:
        labels: (N,) class numbers.
        size: Number of images to pick; all N if there are fewer.
        seed: Random seed for the choice.

    Returns:
        (min(size, N),) indices of the picked images, sorted.

    Raises:
        UserError: There is no label.
    """
    _require_labels(labels)
    return np.sort(_stratified_order(labels, seed)[:size])


def _require_labels(labels: NDArray[np.int64]) -> None:
    if not len(labels):
        raise UserError(
            "no image has a label yet: open plots/label.html in a browser, label images there, save the table as "
            "labels.csv in the folder of the images, and run `dvc repro` again"
        )


def unlabeled_pool(
    unlabeled: NDArray[np.uint8], sample: NDArray[np.int64], train: NDArray[np.uint8], labeled: NDArray[np.int64]
) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Return the unlabelled images in use: the sample, and the training images whose label is not visible.

    Args:
        unlabeled: (M, H, W, 3) unlabelled images.
        sample: Indices of the unlabelled images that were drawn.
        train: (N, H, W, 3) training images.
        labeled: Indices of the training images whose label is visible.

    Returns:
        Both arrays as they are, each with the indices of its images that are in use.
    """
    return [(unlabeled, sample), (train, np.setdiff1d(np.arange(len(train)), labeled, assume_unique=True))]
