"""STL-10 (Coates, Ng and Lee 2011) from its official binary archive, read as a stream."""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import STL10

from stages.images.sources.download import fetch
from stages.pipeline.errors import UserError
from stages.pipeline.files import checksum
from stages.pipeline.image_set import create_image_set
from stages.pipeline.progress import progress

SIZE = 96
URL = STL10.url.replace("http://", "https://")
_IMAGE_BYTES = 3 * SIZE * SIZE
_CHUNK = 512
_IMAGES = {"train_X.bin": "train", "test_X.bin": "test", "unlabeled_X.bin": "unlabeled"}
_LABELS = {"train_y.bin": "train_labels", "test_y.bin": "test_labels"}
_TEXTS = (STL10.class_names_file, STL10.folds_list_file)

# An archive is untrusted input: nothing in it may be larger than the same file in a data set of this kind can be.
_MAX_MEMBERS = 100
_MAX_IMAGES = 200_000
_MAX_BYTES = dict.fromkeys(_IMAGES, _MAX_IMAGES * _IMAGE_BYTES) | dict.fromkeys(_LABELS, _MAX_IMAGES)
_MAX_OTHER_BYTES = _HEADER_BYTES = 1 << 20


def find_archive(path: str | None, url: str | None, md5: str | None, scratch: Path) -> Path:
    """Return the verified archive, from this machine or downloaded.

    Args:
        path: Archive on this machine, or the directory that holds it; None to download it.
        url: Address of a mirror; None for the official server.
        md5: MD5 of the archive that the mirror serves; None for the official one.
        scratch: Directory in which a downloaded archive is kept until it is unpacked.

    Raises:
        UserError: The archive is not there, cannot be downloaded, or has another checksum.
    """
    md5 = md5 or STL10.tgz_md5
    if path is None:
        return fetch(url or URL, scratch / STL10.filename, md5)
    archive = Path(path) / STL10.filename if Path(path).is_dir() else Path(path)
    if not archive.is_file():
        raise UserError(
            f"{archive} is not there: dataset.path must name {STL10.filename}, or the directory that holds it"
        )
    found = checksum(archive, "md5")
    if found != md5:
        raise UserError(f"{archive} has MD5 {found}, expected {md5}: download it again, or check dataset.md5")
    return archive


def unpack_stl10(archive: Path, directory: str | Path) -> None:
    """Create an image set from the official archive, with a few hundred images in memory at a time.

    Args:
        archive: Path of `stl10_binary.tar.gz`, already verified.
        directory: Directory of the image set.

    Raises:
        UserError: The file is not an archive, or has more or larger members than STL-10 can have, a member outside of
            its directory, or one that is missing or of a wrong length.
    """
    texts: dict[str, list[str]] = {}
    classes: list[str] = []
    with _readable(archive), create_image_set(directory, "stl10", classes) as writer:
        # Members come in the order of the archive, which is read once.
        for name, size, stream in _members(archive):
            if name in _IMAGES:
                if size == 0 or size % _IMAGE_BYTES:
                    raise UserError(f"{archive}: {name} has {size:,} bytes, not a multiple of {_IMAGE_BYTES:,}")
                array = writer.create(_IMAGES[name], (size // _IMAGE_BYTES, SIZE, SIZE, 3))
                _copy_images(stream, array, name)
            elif name in _LABELS:
                writer.add(_LABELS[name], np.frombuffer(stream.read(), np.uint8).astype(np.int64) - 1)
            else:
                texts[name] = stream.read().decode("ascii", "replace").split("\n")

        arrived = {name for name, array in (_IMAGES | _LABELS).items() if array in writer.shapes} | set(texts)
        missing = sorted({*_IMAGES, *_LABELS, *_TEXTS} - arrived)
        if missing:
            raise UserError(f"{archive}: {', '.join(missing)} is missing from it")

        # What can be checked only when everything has arrived.
        classes += [line.strip() for line in texts[STL10.class_names_file] if line.strip()]
        _check_labels(archive, writer.directory, writer.shapes, len(classes))
        writer.add("folds", _parse_folds(archive, texts[STL10.folds_list_file], writer.shapes["train"][0]))


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Report whatever the decoders raise on a broken or forged archive in one line."""
    try:
        yield
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        OverflowError,
        ValueError,
        RecursionError,
    ) as error:
        raise UserError(f"{archive} is not a readable tar.gz archive ({error}): download it again") from error


class _MeteredStream(io.RawIOBase):
    """A stream of no more bytes than were allowed, since headers that unpack to gigabytes would fill memory."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, _HEADER_BYTES

    def allow(self, count: int) -> None:
        """Let `count` bytes more through, and as many as headers may need."""
        self._left += count + _HEADER_BYTES

    def read(self, count: int = -1) -> bytes:
        content = self._stream.read(count)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError("it holds more bytes than its members account for")
        return content


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size and content of each member that an image set is made from."""
    with gzip.open(archive) as unpacked:
        stream = _MeteredStream(unpacked)
        tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115
        for number, member in enumerate(tar):
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise UserError(f"{archive}: member {member.name!r} would land outside its directory: refused")
            if number == _MAX_MEMBERS or not 0 <= member.size <= _MAX_BYTES.get(path.name, _MAX_OTHER_BYTES):
                raise UserError(
                    f"{archive}: member {member.name!r} is more than an archive of STL-10 can hold: refused"
                )
            stream.allow(member.size)
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and path.name in {*_IMAGES, *_LABELS, *_TEXTS}:
                yield path.name, member.size, content


def _copy_images(stream: IO[bytes], array: NDArray[np.uint8], name: str) -> None:
    """Copy images from a stream of column-major planes into an (N, H, W, 3) array."""
    with progress(title=f"unpack {name}", unit="img", total=len(array)) as bar:
        for start in range(0, len(array), _CHUNK):
            rows = array[start : start + _CHUNK]
            planes = np.frombuffer(stream.read(len(rows) * _IMAGE_BYTES), np.uint8)
            rows[:] = planes.reshape(-1, 3, SIZE, SIZE).transpose(0, 3, 2, 1)
            bar.update(len(rows))


def _check_labels(archive: Path, directory: Path, shapes: dict[str, list[int]], classes: int) -> None:
    for split in ("train", "test"):
        images, labelled = shapes[split][0], shapes[f"{split}_labels"][0]
        if images != labelled:
            raise UserError(f"{archive}: {split} has {images} images but {labelled} labels")
        labels = np.load(directory / f"{split}_labels.npy")
        if labels.min() < 0 or labels.max() >= classes:
            raise UserError(f"{archive}: {split}_y.bin holds labels outside 1..{classes}, the classes that it names")


def _parse_folds(archive: Path, lines: list[str], images: int) -> NDArray[np.int64]:
    """Parse one fold a line, all of the same length, into (F, M) indices of training images."""
    folds = [[int(number) for number in re.findall(r"\d+", line)] for line in lines if line.strip()]
    if not folds or not folds[0] or len({len(fold) for fold in folds}) > 1 or max(map(max, folds)) >= images:
        raise UserError(f"{archive}: {STL10.folds_list_file} does not hold folds of {images} images")
    return np.array(folds, np.int64)
