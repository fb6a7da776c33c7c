"""The reader of STL-10 against torchvision's own, over a local server that also breaks off, refuses and lies."""

import gzip
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from archives import archive, contents, serving
from torchvision.datasets import STL10

from stages.files import UserError
from stages.images.layout import open_images
from stages.images.stl10 import find_archive, unpack_stl10


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    return directory, archive(directory / STL10.filename, contents())


def _variant(tmp_path, **changes):
    files = contents(10, 10, 10) | changes
    path = tmp_path / "variant.tar.gz"
    archive(path, {name: content for name, content in files.items() if content is not None})
    return path


def test_arrays_are_those_of_torchvisions_reader(served, tmp_path, monkeypatch):
    directory, md5 = served
    with serving(directory) as (address, _):
        found = find_archive(None, f"{address}/{STL10.filename}", md5, tmp_path / "scratch")
    unpack_stl10(found, tmp_path / "images")
    with tarfile.open(found) as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    images = open_images(tmp_path / "images")
    for split in ("train", "test", "unlabeled"):
        theirs = STL10(tmp_path, split)
        np.testing.assert_array_equal(getattr(images, split), theirs.data.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(np.asarray(theirs[3][0]), getattr(images, split)[3])
        if split != "unlabeled":
            np.testing.assert_array_equal(getattr(images, f"{split}_labels"), theirs.labels)
    assert list(images.classes) == STL10(tmp_path, "train").classes
    for number, fold in enumerate(np.load(tmp_path / "images" / "folds.npy")):
        np.testing.assert_array_equal(
            images.train[fold].transpose(0, 3, 1, 2), STL10(tmp_path, "train", folds=number).data
        )


def test_a_transfer_cut_off_goes_on_where_it_stopped(served, tmp_path):
    directory, md5 = served
    total = (directory / STL10.filename).stat().st_size
    with serving(directory, cut=total // 2) as (address, sent):
        url = f"{address}/{STL10.filename}"
        with pytest.raises(UserError, match=r"broke off after [\d,]+ bytes.*goes on from there"):
            find_archive(None, url, md5, tmp_path)
        find_archive(None, url, md5, tmp_path)
        start, rest = sent[1]
        assert total // 2 - 65536 <= start <= total // 2
        assert start + rest == total
        find_archive(None, url, md5, tmp_path)
        assert len(sent) == 2, "what has arrived and is right is not fetched again"


def test_a_killed_transfer_goes_on_where_it_stopped(served, tmp_path):
    directory, md5 = served
    total = (directory / STL10.filename).stat().st_size
    with socket.create_server(("127.0.0.1", 0)) as slow:
        address = f"http://127.0.0.1:{slow.getsockname()[1]}/{STL10.filename}"
        code = f"from pathlib import Path; from stages.images.stl10 import find_archive; find_archive(None, {address!r}, {md5!r}, Path({str(tmp_path)!r}))"
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        connection, _ = slow.accept()
        with connection:
            connection.recv(65536)
            half = (directory / STL10.filename).read_bytes()[: 8 << 20]
            connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {total}\r\n\r\n".encode() + half)
            part = tmp_path / f"{STL10.filename}.part"
            while not (part.exists() and part.stat().st_size >= 4 << 20):
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
            process.wait()
    have = part.stat().st_size
    with serving(directory) as (address, sent):
        find_archive(None, f"{address}/{STL10.filename}", md5, tmp_path)
    assert sent == [(have, total - have)]


def test_a_wrong_checksum_is_found_before_unpacking(served, tmp_path):
    directory, _ = served
    with serving(directory) as (address, _), pytest.raises(UserError, match=r"MD5 .* expected 0000"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="expected 91f7"):
        find_archive(str(directory), None, None, tmp_path)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusing_server(served, tmp_path, status):
    with serving(served[0], status=status) as (address, _), pytest.raises(UserError, match=f"answers {status}"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)


def test_no_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="Connection refused"):
        find_archive(None, f"http://127.0.0.1:{port}/x", "0" * 32, tmp_path)


def test_no_room(served, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with serving(served[0]) as (address, _), pytest.raises(UserError, match="free some space"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)


def test_no_archive_at_the_path(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.path must name"):
        find_archive(str(tmp_path), None, None, tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"test_y.bin": None}, r"test_y\.bin is missing"),
        ({"class_names.txt": None}, r"class_names\.txt is missing"),
        ({"unlabeled_X.bin": b"short"}, "5 bytes, not a multiple"),
        ({"train_y.bin": b"\x01" * 9}, "10 images but 9 labels"),
        ({"train_y.bin": b"\x0b" * 10}, r"labels outside 1\.\.10"),
        ({"fold_indices.txt": b"1 2 3\n1 2\n"}, "does not hold folds"),
        ({"fold_indices.txt": b"1 2 99\n"}, "does not hold folds"),
        ({"../../evil.txt": b"!"}, "would land outside its directory"),
        ({"/evil.txt": b"!"}, "would land outside its directory"),
    ],
)
def test_a_wrong_archive_leaves_nothing_behind(tmp_path, changes, complaint):
    path = _variant(tmp_path, **changes)
    with pytest.raises(UserError, match=complaint):
        unpack_stl10(path, tmp_path / "data" / "images")
    assert not any((tmp_path / "data").iterdir())


@pytest.mark.parametrize("damage", ["page", "truncated", "not tar", "empty"])
def test_what_is_not_an_archive(tmp_path, damage):
    path: Path = _variant(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "page": b"<html>Not here</html>",
            "truncated": whole[: len(whole) // 2],
            "not tar": gzip.compress(b"hello" * 999),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(UserError, match=r"not a readable tar\.gz archive"):
        unpack_stl10(path, tmp_path / "data" / "images")
    assert not any((tmp_path / "data").iterdir())
