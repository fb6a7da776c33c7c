"""Files that someone broke or forged: the readers of each kind, fed by tests/fuzz.py in a process of its own."""

import gzip
import io
import subprocess
import sys
import tarfile

import pytest
from PIL import Image
from structure import ROOT

from stages.files import UserError
from stages.images.folder import read_picture
from stages.images.stl10 import unpack_stl10


@pytest.mark.parametrize(
    ("what", "times"),
    [("archives", 2000), ("pictures", 2000), ("parameters", 300), ("arrays", 500), ("weights", 100)],
)
def test_fuzz(what, times):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "fuzz.py"), what, str(times)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
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
def test_an_archive_that_would_explode_is_refused(tmp_path, member, present, complaint):
    with pytest.raises(UserError, match=complaint):
        unpack_stl10(_archive(tmp_path / "a.tar.gz", (member, present)), tmp_path / "images")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("airplane\nbird\n")
    link = _member("stl10_binary/class_names.txt", 0, tarfile.SYMTYPE)
    link.linkname = str(tmp_path / "secret")
    with pytest.raises(UserError, match=r"class_names\.txt.* is missing from it"):
        unpack_stl10(_archive(tmp_path / "a.tar.gz", (link, 0)), tmp_path / "images")


@pytest.mark.parametrize("size", [(9000, 9000), (40000, 40000)])
def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path, size):
    stream = io.BytesIO()
    Image.new("1", (8, 8)).save(stream, "BMP")
    forged = bytearray(stream.getvalue())
    forged[18:26] = b"".join(edge.to_bytes(4, "little") for edge in size)
    (tmp_path / "x.bmp").write_bytes(forged)
    with pytest.raises(UserError, match=r"cannot be read as a picture \((it has 9000 x 9000|Image size \(1600000000)"):
        read_picture(tmp_path / "x.bmp", 16)
