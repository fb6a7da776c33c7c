"""A generated image set: outlines filled with textures, in ten classes, for trying everything offline in minutes.

A class is a pair of outline and texture. Each outline occurs with two textures and each texture with two outlines, so
that neither alone identifies the class. Tint, brightness, size, position, tilt and pixel noise vary: hard nuisances for
a classifier with few labels, but crops and changes of colour leave the class recognizable. Outlines that resemble each
other (disc and square, star and cross) share no texture, no outline has two textures that resemble each other (dots and
noise, noise and none), and the dark parts of a texture stand out from the background: few images are ambiguous, and
what is hard can be learnt from more of them.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.pipeline.image_set import create_image_set
from stages.pipeline.progress import progress

# Neighbours in one share a member of the other, the last and the first included.
OUTLINES = ("disc", "star", "triangle", "square", "cross")
TEXTURES = ("dotted", "striped", "noisy", "hollow", "plain")
CLASSES = tuple(f"{TEXTURES[(i + shift) % 5]} {outline}" for i, outline in enumerate(OUTLINES) for shift in (0, 1))

_SIZES = {"train": 250, "test": 2000, "unlabeled": 5000}
_CHUNK = 128
_RIM = 0.14

Floats = NDArray[np.floating]


def make_shapes(directory: str | Path, size: int, rng: np.random.Generator) -> None:
    """Create an image set of 250 training, 2,000 test and 5,000 unlabelled images, with as many images in each class.

    Args:
        directory: Directory of the image set.
        size: Height and width of the images in pixels.
        rng: Random generator for everything that varies.
    """
    with create_image_set(directory, "shapes", CLASSES) as writer:
        for split, count in _SIZES.items():
            labels = rng.permutation(np.arange(count) % len(CLASSES))
            writer.add(split, draw_shapes(labels, size, rng))
            if split != "unlabeled":
                writer.add(f"{split}_labels", labels)


def draw_shapes(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image for each label.

    Args:
        labels: (N,) class numbers, indices into `CLASSES`.
        size: Height and width of the images in pixels.
        rng: Random generator for everything that varies.

    Returns:
        (N, size, size, 3) RGB images.
    """
    images = np.empty((len(labels), size, size, 3), np.uint8)
    with progress(title="draw", unit="img", total=len(labels)) as bar:
        for start in range(0, len(labels), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            images[chunk] = _draw_chunk(labels[chunk], size, rng)
            bar.update(len(labels[chunk]))
    return images


def _draw_chunk(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    n = len(labels)
    outlines, textures = labels // 2, (labels // 2 + labels % 2) % 5

    def vary(low: float, high: float) -> Floats:
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    # Coordinates in -1..1 across the image (x0, y0), and in those of the outline, which is scaled and tilted (x, y).
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    radius = vary(0.5, 0.8)
    tilt: Floats = np.radians(vary(-40, 40))
    x0 = axis[None, None, :] - vary(-0.2, 0.2)
    y0 = axis[None, :, None] - vary(-0.2, 0.2)
    x = (np.cos(tilt) * x0 + np.sin(tilt) * y0) / radius
    y = (np.cos(tilt) * y0 - np.sin(tilt) * x0) / radius

    # Signed distance of each pixel from the edge of the outline, in pixels.
    distance = np.empty((n, size, size), np.float32)
    for number, name in enumerate(OUTLINES):
        rows = outlines == number
        distance[rows] = _DISTANCES[name](x[rows], y[rows]) * radius[rows] * size / 2

    # Texture, which does not turn with the outline: waves of random phase, grain, or a bright rim.
    fill = np.ones((n, size, size), np.float32)
    wave = 2 * np.pi * vary(3.3, 3.9)
    phase_x, phase_y = vary(0, 2 * np.pi), vary(0, 2 * np.pi)
    for number, name in enumerate(TEXTURES):
        rows = textures == number
        u, v = wave[rows] * x0[rows] / 2 + phase_x[rows], wave[rows] * y0[rows] / 2 + phase_y[rows]
        if name == "striped":
            fill[rows] = _sharpened(np.sin((u + v) * 0.9))
        elif name == "dotted":
            fill[rows] = _sharpened(np.sin(u) + np.sin(v) - 0.3)
        elif name == "noisy":
            fill[rows] = _grain(int(rows.sum()), size, rng)
        elif name == "hollow":
            fill[rows] = np.clip(0.5 + distance[rows] + _RIM * size / 2, 0, 1)

    # A tinted shape with smooth edges on a background with a gradient, under pixel noise.
    inside = np.clip(0.5 - distance, 0, 1)
    brightness = vary(0.7, 1)[..., None]
    tint = 1 + rng.uniform(-0.04, 0.04, (n, 1, 1, 3)).astype(np.float32)
    background = vary(0.1, 0.3)[..., None] * (1 + 0.1 * (vary(-1, 1) * x0 + vary(-1, 1) * y0)[..., None])
    foreground = brightness * tint * (0.55 + 0.45 * fill[..., None])
    images: Floats = background + inside[..., None] * (foreground - background)
    images += rng.standard_normal((n, size, size, 3), np.float32) * 0.3
    return (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)


def _sharpened(wave: Floats) -> Floats:
    sharpened: Floats = np.clip(0.5 + 1.5 * wave, 0, 1)
    return sharpened


def _grain(n: int, size: int, rng: np.random.Generator) -> Floats:
    """Return (n, size, size) random grey levels, constant in cells of 8 x 8 pixels."""
    cells = rng.random((n, -(-size // 8), -(-size // 8)), np.float32)
    return cells.repeat(8, axis=1).repeat(8, axis=2)[:, :size, :size]


# Signed distances from the outlines, negative inside.


def _disc(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.9


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78


def _triangle(x: Floats, y: Floats) -> Floats:
    return np.maximum(0.866 * np.abs(x) - 0.5 * y, y) - 0.5


def _star(x: Floats, y: Floats) -> Floats:
    angle = np.arctan2(x, -y)
    folded = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    r = np.hypot(x, y)
    px, py = r * np.cos(folded), r * np.sin(folded)
    return (px - 1) * 0.588 + py * 0.809


def _cross(x: Floats, y: Floats) -> Floats:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.9, np.minimum(x, y) - 0.3)


_DISTANCES = {"disc": _disc, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross}
