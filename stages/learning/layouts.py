"""Two-dimensional layouts of features, aligned from one checkpoint to the next."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.manifold import TSNE

from stages.files import UserError
from stages.progress import progress


def aligned_layouts(
    features: list[NDArray[np.float32]], *, perplexity: float, iterations: int, seed: int
) -> list[NDArray[np.float32]]:
    """One t-SNE layout (van der Maaten and Hinton 2008) for each matrix of features of the same images.

    The first starts from principal components, every other from the layout before it as it stands, with a third of the usual
    early exaggeration, and is then turned or mirrored to fit it: so what moves is what has changed, and the layouts are as faithful as
    separate ones.

    Args:
        features: (N, D) each, in order.
        perplexity: effective number of neighbours, below N.
        iterations: of the optimizer, for each layout.
        seed: of the principal components.

    Returns:
        (N, 2) layouts, centred, with root mean square radius 1.

    Raises:
        UserError: `perplexity` is not below N.
    """
    count = len(features[0])
    if perplexity >= count:
        raise UserError(
            f"tsne.perplexity is {perplexity:g}, it must be below the number of images, {count} (embed.images)"
        )
    layouts: list[NDArray[np.float32]] = []
    start, exaggeration = "pca", 12.0
    for matrix in progress(features, title="t-SNE", unit="layout"):
        tsne = TSNE(
            perplexity=perplexity,
            max_iter=iterations,
            init=start,
            early_exaggeration=exaggeration,
            random_state=seed,
            metric="cosine",
        )
        found = tsne.fit_transform(matrix)
        layout = found - found.mean(0)
        layout /= max(np.sqrt(np.square(layout).sum(1).mean()), 1e-12)
        if layouts:
            turn, _ = orthogonal_procrustes(layout, layouts[-1])
            layout = layout @ turn
        layouts.append(layout.astype(np.float32))
        start, exaggeration = found, 4.0
    return layouts
