"""Files that someone broke or forged: the readers of each kind, fed by helpers/fuzz.py in a process of its own."""

import gzip
import io
import os
import subprocess
import sys
import tarfile

import pytest
from helpers.structure import ROOT
from PIL import Image

from stages.images.sources.decoding import read_image
from stages.images.sources.stl10 import unpack_stl10
from stages.pipeline.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "times"),
    [
        ("archives", 2000),
        ("images", 4000),
        ("names", 100),
        ("tables", 1000),
        ("parameters", 300),
        ("arrays", 500),
        ("weights", 100),
    ],
)
def test_readers_survive_fuzzing(what, times):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "helpers" / "fuzz.py"), what, str(times)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert " refused" in done.stdout


def _archive(path, *members):
    """A tar.gz archive of (name, size, bytes that are there) members."""
    with gzip.open(path, "wb", 1) as stream:
        for member, present in members:
            stream.write(member.tobuf(tarfile.GNU_FORMAT))
            for _ in range(0, present, 1 << 20):
                stream.write(bytes(1 << 20))
    return path


def _member(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


@pytest.mark.parametrize(
    ("member", "present", "complaint"),
    [
        (_member("stl10_binary/train_X.bin", 1 << 40), 0, "is more than an archive of STL-10 can hold"),
        (_member("stl10_binary/train_y.bin", 1 << 30), 0, "is more than an archive of STL-10 can hold"),
        (_member("stl10_binary/other.bin", 1 << 30), 0, "is more than an archive of STL-10 can hold"),
        (_member("x", 400 << 20, tarfile.XHDTYPE), 400 << 20, "holds more bytes than its members account for"),
        (_member("x", 400 << 20, tarfile.GNUTYPE_LONGNAME), 400 << 20, "holds more bytes than its members account for"),
        (_member("../train_X.bin", 0), 0, "would land outside its directory"),
        (_member("/train_X.bin", 0), 0, "would land outside its directory"),
    ],
)
def test_unpack_stl10_refuses_archive_bomb(tmp_path, member, present, complaint):
    with pytest.raises(UserError, match=complaint):
        unpack_stl10(_archive(tmp_path / "a.tar.gz", (member, present)), tmp_path / "images")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_unpack_stl10_follows_no_link(tmp_path):
    (tmp_path / "secret").write_text("airplane\nbird\n")
    link = _member("stl10_binary/class_names.txt", 0, tarfile.SYMTYPE)
    link.linkname = str(tmp_path / "secret")
    with pytest.raises(UserError, match=r"class_names\.txt.* is missing from it"):
        unpack_stl10(_archive(tmp_path / "a.tar.gz", (link, 0)), tmp_path / "images")


@pytest.mark.parametrize("size", [(9000, 9000), (40000, 40000)])
def test_read_image_refuses_absurd_size_before_decoding(tmp_path, size):
    stream = io.BytesIO()
    Image.new("1", (8, 8)).save(stream, "BMP")
    forged = bytearray(stream.getvalue())
    forged[18:26] = b"".join(edge.to_bytes(4, "little") for edge in size)
    (tmp_path / "x.bmp").write_bytes(forged)
    with pytest.raises(UserError, match=r"cannot be read as an image \((it has 9000 x 9000|Image size \(1600000000)"):
        read_image(tmp_path / "x.bmp", 16)
