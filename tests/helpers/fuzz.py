"""Feed broken and forged files to whatever reads them: each is read or refused in one line.

PYTHONPATH=.:tests python tests/helpers/fuzz.py archives 2000

What: archives, images, names, tables, parameters, arrays, weights. No file may take more than 10 seconds of the
processor, nor all of them more than 1 GiB of memory.
"""

import gzip
import io
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from helpers.archives import stl10_files
from helpers.structure import ROOT
from stages.images.sources.decoding import read_image
from stages.images.sources.folder import read_folder
from stages.images.sources.labels import read_labels
from stages.images.sources.stl10 import unpack_stl10
from stages.models.checkpoints import load_classifier, save_classifier
from stages.models.device import peak_memory
from stages.models.encoders import build_classifier
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import load_params

MOST_SECONDS = 10
MOST_MEMORY = 1 << 30
_NASTY = (
    b"\xff" * 8,
    b"\x00" * 8,
    b"\x7f\xff\xff\xff",
    b"777777777777",
    b"-1",
    b"1e999",
    b"&a [*a, *a]",
    b"../../x",
    b"/etc/x",
)

edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "write", "cut", "insert", "drop", "repeat"]),
        st.floats(0, 1, exclude_max=True) | st.integers(0, 1023),
        st.integers(0, 255),
        st.sampled_from(_NASTY),
    ),
    min_size=1,
    max_size=6,
)


def mutated(content: bytes, changes: list[tuple[str, float | int, int, bytes]]) -> bytes:
    """Return the content with some bytes changed, lost, added or repeated."""
    data = bytearray(content)
    for kind, place, value, nasty in changes:
        at = min(place if isinstance(place, int) else int(place * len(data)), max(len(data) - 1, 0))
        if kind == "flip" and data:
            data[at] ^= value or 1
        elif kind == "write":
            data[at : at + len(nasty)] = nasty
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = nasty
        elif kind == "drop":
            del data[at : at + value]
        else:
            data[at:at] = data[at : at + 512]
    return bytes(data)


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in stl10_files(train=20, test=10, unlabeled=3).items():
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(bytes(len(content)) if name.endswith("X.bin") else content))
    return stream.getvalue()


def _image_files() -> dict[str, bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8))
    found = {}
    for ending, mode, more in (
        ("jpg", "RGB", {}),
        ("jpeg", "CMYK", {"progressive": True}),
        ("png", "RGBA", {}),
        ("gif", "P", {}),
        ("bmp", "RGB", {}),
        ("tif", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "I;16", {}),
        ("webp", "RGB", {}),
        ("ppm", "RGB", {}),
        ("jp2", "RGB", {}),
        ("avif", "RGB", {}),
    ):
        stream = io.BytesIO()
        converted = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
        converted.save(stream, Image.registered_extensions()[f".{ending}"], **more)
        found[ending] = stream.getvalue()
    return found | _image_files_with_metadata(image)


def _image_files_with_metadata(image: Image.Image) -> dict[str, bytes]:
    """Return images with orientation, text and colour profile, and of other depths, by an ending of their own."""
    grey = np.asarray(image.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  8\n4578696600000000\n", zip=True)
    text.add_itxt("Comment", "long " * 1000, zip=True)
    variants = {
        "turned.jpg": (image, {"exif": exif, "comment": b"hello", "icc_profile": b"profile" * 9}),
        "turned.png": (image, {"exif": exif, "pnginfo": text, "icc_profile": b"profile" * 9}),
        "turned.webp": (image, {"exif": exif, "xmp": b"<x/>"}),
        "turned.avif": (image, {"exif": exif}),
        "turned.tif": (image, {"tiffinfo": {274: 6}}),
        "int32.tif": (Image.fromarray(grey.astype(np.int32)), {"tiffinfo": {274: 5}}),
        "float.tif": (Image.fromarray(np.where(grey < 9, np.nan, grey).astype(np.float32)), {}),
        "white.tif": (Image.fromarray(grey.astype(np.uint16)), {"tiffinfo": {262: 0, 281: 255}}),
    }
    found = {}
    for ending, (variant, options) in variants.items():
        stream = io.BytesIO()
        variant.save(stream, Image.registered_extensions()[f".{ending.split('.')[1]}"], **options)
        found[ending] = stream.getvalue()
    return found


def archives(place: Path) -> Callable:
    """Return a test of archives of STL-10, broken inside or outside of the compression."""
    plain = _tar()
    packed = gzip.compress(plain, 1, mtime=0)
    path = place / "in" / "archive.tar.gz"
    path.parent.mkdir()

    @given(inside=st.booleans(), changes=edits)
    def run(inside, changes):
        path.write_bytes(gzip.compress(mutated(plain, changes), 1, mtime=0) if inside else mutated(packed, changes))
        _reads_or_refuses(unpack_stl10, path, place / "out" / "images")
        assert {p.name for p in place.iterdir()} <= {"in", "out"}
        assert not (place / "out").exists() or {p.name for p in (place / "out").iterdir()} <= {"images"}

    return run


def images(place: Path) -> Callable:
    """Return a test of images in every format that is read."""
    whole = _image_files()

    @given(ending=st.sampled_from(sorted(whole)), changes=edits)
    def run(ending, changes):
        path = place / f"image.{ending}"
        path.write_bytes(mutated(whole[ending], changes))
        _reads_or_refuses(read_image, path, 16)

    return run


def names(place: Path) -> Callable:
    """Return a test of folders of images whose classes and files have any names that a file system takes."""
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(stream, "PNG")
    texts = st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
    unbroken = (st.binary(min_size=1, max_size=60) | texts).map(lambda name: name.translate(None, b"/\0"))
    allowed = unbroken.filter(lambda name: name not in (b"", b".", b"..")).map(os.fsdecode)
    files = st.lists(st.tuples(allowed, st.sampled_from(["", ".png", ".PNG", ".jpg", ".txt"])), max_size=3)

    @given(classes=st.lists(allowed, min_size=1, max_size=3, unique=True), others=files, test_differs=st.booleans())
    def run(classes, others, test_differs):
        root = place / "in"
        shutil.rmtree(root, ignore_errors=True)
        directories = [root / "train" / name for name in classes]
        directories += [root / "test" / name for name in (classes[:1] * 2 if test_differs else classes)]
        for directory in [*directories, root / "unlabeled"]:
            directory.mkdir(parents=True, exist_ok=True)
            for name, ending in [*others, ("a", ".png")]:
                (directory / f"{name}{ending}").write_bytes(stream.getvalue())
        _reads_or_refuses(read_folder, root, 8, place / "out")
        if (place / "out" / "dataset.json").exists():
            found = open_images(place / "out")
            assert len(found.files["train"]) == len(found.train)
            shutil.rmtree(place / "out")

    return run


def tables(place: Path) -> Callable:
    """Return a test of tables of labels."""
    files = [place / f"{number}.png" for number in range(4)]
    whole = b'picture,class,split\n0.png,cat,\n1.png,"a ""dog""",test\n2.png,cat,train\n3.png,,\n'

    @given(changes=edits)
    def run(changes):
        (place / "labels.csv").write_bytes(mutated(whole, changes))
        _reads_or_refuses(read_labels, place, files)

    return run


def parameters(place: Path) -> Callable:
    """Return a test of parameter files."""
    whole = (ROOT / "params.yaml").read_bytes()

    @given(changes=edits)
    def run(changes):
        (place / "params.yaml").write_bytes(mutated(whole, changes))
        _reads_or_refuses(load_params, place / "params.yaml")

    return run


def arrays(place: Path) -> Callable:
    """Return a test of arrays."""
    path = place / "labels.npy"
    np.save(path, np.arange(100))
    whole = path.read_bytes()

    @given(changes=edits)
    def run(changes):
        path.write_bytes(mutated(whole, changes))
        _reads_or_refuses(read_array, path, "label", np.int64)

    return run


def weights(place: Path) -> Callable:
    """Return a test of weights."""
    path = place / "model.safetensors"
    save_classifier(build_classifier("narrow", "conv3", 2, 0), ("a", "b"), 32, 16, path)
    whole = path.read_bytes()

    @given(changes=edits)
    def run(changes):
        path.write_bytes(mutated(whole, changes))
        _reads_or_refuses(load_classifier, path)

    return run


outcomes = {"read": 0, "refused": 0}


def _reads_or_refuses(reader: Callable, *arguments: object) -> None:
    start, message = time.process_time(), ""
    try:
        reader(*arguments)
        outcomes["read"] += 1
    except UserError as error:
        message = str(error)
        outcomes["refused"] += 1
    assert "\n" not in message
    assert time.process_time() - start < MOST_SECONDS


def main(what: str, times: int) -> None:
    """Feed so many files of one kind to their reader."""
    torch.set_num_threads(1)
    checks = settings(
        max_examples=times,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    with tempfile.TemporaryDirectory() as place:
        checks(globals()[what](Path(place)))()
    peak = peak_memory(torch.device("cpu"))
    print(
        f"{outcomes['read']} {what} were read and {outcomes['refused']} refused, with {peak / 2**20:,.0f} MiB at most"
    )
    assert peak < MOST_MEMORY, f"{peak / 2**20:,.0f} MiB"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
