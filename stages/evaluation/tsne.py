"""Two-dimensional layouts of features, aligned from one checkpoint to the next."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import TSNE

from stages.pipeline.errors import UserError
from stages.pipeline.progress import progress

_EARLY_EXAGGERATION, _EARLY_EXAGGERATION_LATER = 12.0, 4.0


def aligned_layouts(
    features: list[NDArray[np.float32]], *, perplexity: float, iterations: int, seed: int
) -> list[NDArray[np.float32]]:
    """Compute one t-SNE layout (van der Maaten and Hinton 2008) per checkpoint, by cosine distance.

    The first layout is initialised from principal components, each later one from the layout before it, with a third of
    the default early exaggeration, and is then rotated or mirrored to fit it (orthogonal Procrustes). So points move
    only where the features have changed, and the layouts are as faithful as independent ones.

    Args:
        features: (N, D) features of the same images at each checkpoint, in order.
        perplexity: Effective number of neighbours, below N.
        iterations: Number of optimizer iterations for each layout.
        seed: Random seed for the principal components.

    Returns:
        (N, 2) layouts, centred, with root mean square radius 1; all points are in the centre if all features have the
        same direction.

    Raises:
        UserError: `perplexity` is not below N.
    """
    count = len(features[0])
    if perplexity >= count:
        raise UserError(
            f"tsne.perplexity is {perplexity:g}, it must be below the number of images, {count} (embed.images)"
        )

    layouts: list[NDArray[np.float32]] = []
    init: str | NDArray[np.float32] = "pca"
    for matrix in progress(features, title="t-SNE", unit="layout"):
        if _have_same_direction(matrix):  # Scikit-learn would crash.
            layouts.append(np.zeros((count, 2), np.float32))
            continue
        tsne = TSNE(
            perplexity=perplexity,
            max_iter=iterations,
            init=init,
            early_exaggeration=_EARLY_EXAGGERATION_LATER if layouts else _EARLY_EXAGGERATION,
            random_state=seed,
            metric="cosine",
        )
        embedding: NDArray[np.float32] = tsne.fit_transform(matrix)

        layout = embedding - embedding.mean(0)
        layout /= max(np.sqrt(np.square(layout).sum(1).mean()), 1e-12)
        if layouts:
            rotation, _ = orthogonal_procrustes(layout, layouts[-1])
            layout = layout @ rotation
        layouts.append(layout.astype(np.float32))
        init = embedding
    return layouts


def _have_same_direction(features: NDArray[np.float32]) -> bool:
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return bool(np.abs(unit - unit[0]).max() < 1e-6)


def layouts_table(
    layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Return every point of every layout in one table.

    Args:
        layouts: (N, 2) layout at each epoch.
        labels: (N,) class numbers.
        classes: Names of the classes.

    Returns:
        Columns `epoch`, `image` (0..N-1), `x`, `y` (rounded to four decimals) and `label` (name of the class).
    """
    names = np.array(classes, object)[labels]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "epoch": epoch,
                    "image": np.arange(len(names)),
                    "x": layout[:, 0].round(4),
                    "y": layout[:, 1].round(4),
                    "label": names,
                }
            )
            for epoch, layout in layouts.items()
        ]
    )
