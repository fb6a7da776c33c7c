"""Images of one's own: `train/<class>/*`, `test/<class>/*` and `unlabeled/**`, of any size and mode."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from stages.pipeline.errors import UserError
from stages.pipeline.image_set import create_image_set
from stages.pipeline.progress import progress

_CHUNK = 512
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LARGE_PIXELS, _MAX_PIXELS = 8_000_000, 64_000_000
_ONE_LARGE_IMAGE = Lock()
# What turns an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_folder(path: str | Path, size: int, directory: str | Path) -> None:
    """Create an image set from a folder of images.

    Every image is turned upright by its EXIF orientation, laid on white where it is transparent, cropped to its
    central square and resized.

    Args:
        path: Folder that holds `train/<class>/`, `test/<class>/` and `unlabeled/`.
        size: Height and width of the images in the image set in pixels.
        directory: Directory of the image set.

    Raises:
        UserError: A split is missing, a class has no images, a test class does not occur in training, or an image is
            broken.
    """
    root = Path(path)
    train, test = _find_classes(root / "train"), _find_classes(root / "test")
    classes = tuple(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise UserError(f"{root / 'test' / unknown[0]}: class {unknown[0]!r} has no images in {root / 'train'}")
    unlabeled = _find_images(root / "unlabeled")

    with create_image_set(directory, "folder", classes) as writer:
        for split, files in (("train", _flat(train)), ("test", _flat(test)), ("unlabeled", unlabeled)):
            _read_all(files, writer.create(split, (len(files), size, size, 3)), split)
        writer.add("train_labels", _labels(train, classes))
        writer.add("test_labels", _labels(test, classes))


def _find_classes(split: Path) -> dict[str, list[Path]]:
    """Return the image files of each class of a split, classes and files in the order of their names."""
    if not split.is_dir():
        raise UserError(f"{split} is not there: dataset.path needs train/<class>/, test/<class>/ and unlabeled/")
    classes = {
        child.name: _find_images(child)
        for child in sorted(split.iterdir())
        if child.is_dir() and not child.name.startswith(".")
    }
    if len(classes) < 2:
        raise UserError(f"{split} holds {len(classes)} class directories: at least two are needed")
    return classes


def _find_images(directory: Path) -> list[Path]:
    """Return all image files below a directory, sorted; hidden files do not count."""
    if not directory.is_dir():
        raise UserError(f"{directory} is not there: dataset.path needs train/<class>/, test/<class>/ and unlabeled/")
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS}
    found = sorted(
        path
        for path in directory.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise UserError(f"{directory} holds no images: add some, or remove the directory")
    return found


def _flat(found: dict[str, list[Path]]) -> list[Path]:
    return [file for files in found.values() for file in files]


def _labels(found: dict[str, list[Path]], classes: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([classes.index(name) for name, files in found.items() for _ in files], np.int64)


def _read_all(files: list[Path], array: NDArray[np.uint8], split: str) -> None:
    """Read image files into an (N, size, size, 3) array, a chunk at a time, by as many threads as there are cores."""
    bar = progress(title=f"read {split}", unit="img", total=len(files))
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            array[start : start + len(chunk)] = list(pool.map(read_image, chunk, [array.shape[1]] * len(chunk)))
            bar.update(len(chunk))


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read one image as a (size, size, 3) array of RGB bytes.

    Large images are decoded one at a time, so that memory stays bounded however many threads read.

    Raises:
        UserError: The image is broken, or would have more than 64 million pixels in memory (a JPEG: 89 million on
            disk).
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # The header alone is read so far: sizes are checked before anything is decoded, and a JPEG is decoded at
            # reduced size.
            _require_pixels(image, Image.MAX_IMAGE_PIXELS)
            large = image.width * image.height > _LARGE_PIXELS
            image.draft("RGB", (size, size))
            _require_pixels(image, _MAX_PIXELS)
            with _ONE_LARGE_IMAGE if large else nullcontext():
                return np.asarray(_small_rgb(image, size))
    except Exception as error:  # Decoders raise anything when they meet a broken or forged file.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image ({cause}): repair or remove it") from error


def _require_pixels(image: Image.Image, most: int | None) -> None:
    if most is not None and image.width * image.height > most:
        raise ValueError(f"it has {image.width} x {image.height} pixels")


def _small_rgb(image: Image.Image, size: int) -> Image.Image:
    """Return an image as a square of `size` pixels, in RGB on white, upright.

    It is resized before anything else is done with it, because operations at full size are what costs memory.
    """
    upright = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    if image.mode.startswith(("I", "F")):
        small = _deep_grey(image, size).convert("RGB")
    else:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        small = _central_square(image if image.mode == mode else image.convert(mode), size)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    return small if upright is None else small.transpose(upright)


def _deep_grey(image: Image.Image, size: int) -> Image.Image:
    """Return a grey image of more than 8 bits as bytes: integers scaled from 16 bits, floats by their maximum."""
    values = np.asarray(_central_square(image.convert("I").convert("F") if image.mode != "F" else image, size))
    scale = max(values.max() / 255, 1e-12) if image.mode == "F" else 257
    return Image.fromarray((values / scale).clip(0, 255).astype(np.uint8))


def _central_square(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
