"""A person's own pictures: `train/<class>/*`, `test/<class>/*` and `unlabeled/**`, of any size and mode."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from stages.files import UserError
from stages.images.layout import new_images
from stages.progress import progress

_CHUNK = 512
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LARGE_PIXELS, _MOST_PIXELS = 8_000_000, 64_000_000
_ONE_LARGE_PICTURE = Lock()
_TURNS = dict(
    enumerate(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        start=2,
    )
)


def read_folder(path: str | Path, size: int, directory: str | Path) -> None:
    """Turn a folder of pictures into an image set.

    Every picture is turned upright (EXIF), laid on white where it is transparent, cut to its central square and resized.

    Args:
        path: the folder.
        size: height and width of the result in pixels.
        directory: where the image set goes.

    Raises:
        UserError: a split is missing, a class has no picture, a test class is unknown to training, a picture is broken.
    """
    root = Path(path)
    train, test = _classes(root / "train"), _classes(root / "test")
    classes = tuple(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise UserError(f"{root / 'test' / unknown[0]}: class {unknown[0]!r} has no pictures in {root / 'train'}")
    unlabeled = _pictures(root / "unlabeled")
    with new_images(directory, "folder", classes) as writer:
        for name, pictures in (
            ("train", [p for found in train.values() for p in found]),
            ("test", [p for found in test.values() for p in found]),
            ("unlabeled", unlabeled),
        ):
            _read_all(pictures, writer.create(name, (len(pictures), size, size, 3)), name)
        writer.add("train_labels", _labels(train, classes))
        writer.add("test_labels", _labels(test, classes))


def _classes(split: Path) -> dict[str, list[Path]]:
    if not split.is_dir():
        raise UserError(f"{split} is not there: dataset.path needs train/<class>/, test/<class>/ and unlabeled/")
    classes = {
        child.name: _pictures(child)
        for child in sorted(split.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    }
    if len(classes) < 2:
        raise UserError(f"{split} holds {len(classes)} class directories: at least two are needed")
    return classes


def _pictures(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise UserError(f"{directory} is not there: dataset.path needs train/<class>/, test/<class>/ and unlabeled/")
    endings = {ending for ending, name in Image.registered_extensions().items() if name in _FORMATS}
    found = sorted(
        path
        for path in directory.rglob("*")
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise UserError(f"{directory} holds no pictures: add some, or remove the directory")
    return found


def _labels(found: dict[str, list[Path]], classes: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([classes.index(name) for name, pictures in found.items() for _ in pictures], np.int64)


def _read_all(pictures: list[Path], array: NDArray[np.uint8], name: str) -> None:
    bar = progress(title=f"read {name}", unit="img", total=len(pictures))
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(pictures), _CHUNK):
            chunk = pictures[start : start + _CHUNK]
            array[start : start + len(chunk)] = list(pool.map(read_picture, chunk, [array.shape[1]] * len(chunk)))
            bar.update(len(chunk))


def read_picture(path: Path, size: int) -> NDArray[np.uint8]:
    """One picture as (size, size, 3) RGB bytes.

    Large ones are decoded one at a time, so that memory stays bounded however many threads read.

    Raises:
        UserError: it is broken, or would have more than 64 million pixels in memory (of a JPEG, 89 million on disk).
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels")
            large = picture.width * picture.height > _LARGE_PIXELS
            picture.draft("RGB", (size, size))
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels")
            with _ONE_LARGE_PICTURE if large else nullcontext():
                return np.asarray(_small_rgb(picture, size))
    except Exception as error:  # Decoders raise anything when they meet a broken or forged file.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as a picture ({cause}): mend or remove it") from error


def _small_rgb(picture: Image.Image, size: int) -> Image.Image:
    """The central square resized, before anything else is done with it, since that is what costs memory; upright, and on white."""
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(_square(picture.convert("I").convert("F") if picture.mode != "F" else picture, size))
        scale = max(values.max() / 255, 1e-12) if picture.mode == "F" else 257
        small = Image.fromarray((values / scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    else:
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        small = _square(picture if picture.mode == mode else picture.convert(mode), size)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    return small if turn is None else small.transpose(turn)


def _square(picture: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
