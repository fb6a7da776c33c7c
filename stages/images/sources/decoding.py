"""One image file of any size, mode and depth as a small square of RGB bytes."""

import importlib.util
import io
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from stages.pipeline.errors import UserError

_FORMATS = ["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]
HEIF_ENDINGS = (".heic", ".heif", ".hif")
# A photograph of 12 megapixels, as a JPEG, is decoded at reduced size.
_LARGE_PIXELS, _LARGE_PIXELS_ON_DISK, _MAX_PIXELS = 8_000_000, 32_000_000, 64_000_000
_MAX_STRIPPED_BYTES = 128 << 20
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
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# TIFF tags (TIFF 6.0, pages 31 and 37).
_PHOTOMETRIC_INTERPRETATION, _MAX_SAMPLE_VALUE = 262, 281
# Bits that integers of more than 8 bits may have: cameras and scanners store 10, 12 and 14 in 16.
_DEPTHS = (8, 10, 12, 14, 16, 24, 32)

if importlib.util.find_spec("pillow_heif"):
    import pillow_heif

    pillow_heif.register_heif_opener()
    _FORMATS.append("HEIF")


def readable_endings() -> set[str]:
    """Return the endings of file names, in lower case, whose format can be read."""
    return {ending for ending, name in Image.registered_extensions().items() if name in _FORMATS}


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read one image as a (size, size, 3) array of RGB bytes.

    It is turned upright by its orientation tag, laid on white where it is transparent, cropped to its central square
    and resized. Other metadata are ignored, broken or not. Large images are decoded one at a time, so that memory stays
    bounded however many threads read.

    Raises:
        UserError: The image is broken, or would have more than 64 million pixels in memory (a JPEG: 89 million on
            disk).
    """
    try:
        try:
            # From an open file: by its path, Pillow 13 maps an uncompressed TIFF and mixes up a turned one's sides.
            with path.open("rb") as file:
                return _decode(file, size)
        except Exception:
            pixels = _png_without_metadata(path)
            if pixels is None:
                raise
            return _decode(io.BytesIO(pixels), size)
    except Exception as error:  # Decoders raise anything when they meet a broken or forged file.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image ({cause})") from error


def _decode(source: BinaryIO, size: int) -> NDArray[np.uint8]:
    with Image.open(source, formats=_FORMATS) as image:
        # The header alone is read so far: sizes are checked before anything is decoded, and a JPEG is decoded at
        # reduced size.
        _require_pixels(image, Image.MAX_IMAGE_PIXELS)
        on_disk = image.width * image.height
        image.draft("RGB", (size, size))
        _require_pixels(image, _MAX_PIXELS)
        large = image.width * image.height > _LARGE_PIXELS or on_disk > _LARGE_PIXELS_ON_DISK
        with _ONE_LARGE_IMAGE if large else nullcontext():
            return np.asarray(_small_rgb(image, size))


def _require_pixels(image: Image.Image, most: int | None) -> None:
    if most is not None and image.width * image.height > most:
        raise ValueError(f"it has {image.width} x {image.height} pixels")


def _small_rgb(image: Image.Image, size: int) -> Image.Image:
    """Return an image as a square of `size` pixels, in RGB on white, upright.

    It is resized before anything else is done with it, because operations at full size are what costs memory.
    """
    image.load()
    # Read now: loading turns a TIFF upright and takes the tag away, and a PNG may hold the tag after its pixels.
    upright = _UPRIGHT.get(_orientation(image))
    if image.mode.startswith(("I", "F")):
        small = _deep_grey(image, size).convert("RGB")
    else:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        small = _central_square(image if image.mode == mode else image.convert(mode), size)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")
    return small if upright is None else small.transpose(upright)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1, which is upright, if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # The parser raises anything when it meets broken metadata.
        return 1


def _deep_grey(image: Image.Image, size: int) -> Image.Image:
    """Return a grey image of more than 8 bits as bytes.

    White is the value that the file declares, otherwise the largest of the smallest usual depth that holds the
    integers, or the largest value of floats and of data with negative values, whose smallest is black. NaN and negative
    infinity are black, and positive infinity is white.
    """
    values = np.asarray(image, np.float32 if image.mode == "F" else np.float64).astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = (min(float(finite.min()), 0.0), float(finite.max())) if finite.size else (0.0, 1.0)
    tags = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode != "F":
        declared = tags.get(_MAX_SAMPLE_VALUE)
        if isinstance(declared, int) and declared >= high:
            high = declared
        elif low == 0:
            high = next((2**bits - 1 for bits in _DEPTHS if high <= 2**bits - 1), high)

    shares = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    small = np.asarray(_central_square(Image.fromarray(shares.astype(np.float32)), size)).clip(0, 1)
    if tags.get(_PHOTOMETRIC_INTERPRETATION) == 0:  # White is zero.
        small = 1 - small
    return Image.fromarray((small * 255).astype(np.uint8))


def _central_square(image: Image.Image, size: int) -> Image.Image:
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _png_without_metadata(path: Path) -> bytes | None:
    """Return a PNG with nothing but its pixels; None for another file, a very large one, or one without metadata."""
    if path.stat().st_size > _MAX_STRIPPED_BYTES:
        return None
    content = path.read_bytes()
    if not content.startswith(_PNG_SIGNATURE):
        return None
    kept, position, dropped = [_PNG_SIGNATURE], len(_PNG_SIGNATURE), False
    while position + 8 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] in _PNG_PIXELS:
            kept.append(content[position:end])
        else:
            dropped = True
        position = end
    return b"".join(kept) if dropped else None
