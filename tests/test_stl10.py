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
from helpers.archives import serve, stl10_files, write_archive
from torchvision.datasets import STL10

from stages.images.sources.stl10 import find_archive, unpack_stl10
from stages.pipeline.errors import UserError
from stages.pipeline.image_set import open_images

FETCH = """
import sys
from pathlib import Path
from stages.images.sources.stl10 import find_archive
address, md5, directory = sys.argv[1:]
find_archive(None, address, md5, Path(directory))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    return directory, write_archive(directory / STL10.filename, stl10_files())


def _variant(tmp_path, **changes):
    files = stl10_files(10, 10, 10) | changes
    path = tmp_path / "variant.tar.gz"
    write_archive(path, {name: content for name, content in files.items() if content is not None})
    return path


def test_unpack_stl10_equals_torchvision(served, tmp_path, monkeypatch):
    directory, md5 = served
    with serve(directory) as (address, _):
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


def test_find_archive_resumes_cut_transfer(served, tmp_path):
    directory, md5 = served
    total = (directory / STL10.filename).stat().st_size
    with serve(directory, cut=total // 2) as (address, sent):
        url = f"{address}/{STL10.filename}"
        with pytest.raises(UserError, match=r"broke off after [\d,]+ bytes.*run again to resume"):
            find_archive(None, url, md5, tmp_path)
        find_archive(None, url, md5, tmp_path)
        start, rest = sent[1]
        assert total // 2 - 65536 <= start <= total // 2
        assert start + rest == total
        find_archive(None, url, md5, tmp_path)
        assert len(sent) == 2, "what has arrived and is right is not fetched again"


@pytest.mark.parametrize("encoding", ["identity", "gzip", "x-gzip", "br"])
def test_find_archive_takes_bytes_as_sent(served, tmp_path, encoding):
    directory, md5 = served
    total = (directory / STL10.filename).stat().st_size
    with serve(directory, cut=total // 2, encoding=encoding) as (address, _):
        url = f"{address}/{STL10.filename}"
        with pytest.raises(UserError, match="run again to resume"):
            find_archive(None, url, md5, tmp_path)
        assert find_archive(None, url, md5, tmp_path).stat().st_size == total


def test_find_archive_resumes_killed_transfer(served, tmp_path):
    directory, md5 = served
    total = (directory / STL10.filename).stat().st_size
    with socket.create_server(("127.0.0.1", 0)) as slow:
        address = f"http://127.0.0.1:{slow.getsockname()[1]}/{STL10.filename}"
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, address, md5, str(tmp_path)], stderr=subprocess.DEVNULL
        )
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
    with serve(directory) as (address, sent):
        find_archive(None, f"{address}/{STL10.filename}", md5, tmp_path)
    assert sent == [(have, total - have)]


def test_find_archive_checks_md5_before_unpacking(served, tmp_path):
    directory, _ = served
    with serve(directory) as (address, _), pytest.raises(UserError, match=r"MD5 .* expected 0000"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="expected 91f7"):
        find_archive(str(directory), None, None, tmp_path)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_find_archive_reports_refusing_server(served, tmp_path, status):
    with serve(served[0], status=status) as (address, _), pytest.raises(UserError, match=f"answers {status}"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)


def test_find_archive_reports_missing_server(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UserError, match="Connection refused"):
        find_archive(None, f"http://127.0.0.1:{port}/x", "0" * 32, tmp_path)


def test_find_archive_reports_full_disk(served, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with serve(served[0]) as (address, _), pytest.raises(UserError, match="free some space"):
        find_archive(None, f"{address}/{STL10.filename}", "0" * 32, tmp_path)


def test_find_archive_reports_missing_archive(tmp_path):
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
def test_unpack_stl10_names_fault_and_leaves_nothing(tmp_path, changes, complaint):
    path = _variant(tmp_path, **changes)
    with pytest.raises(UserError, match=complaint):
        unpack_stl10(path, tmp_path / "data" / "images")
    assert not any((tmp_path / "data").iterdir())


@pytest.mark.parametrize("damage", ["page", "truncated", "not tar", "empty"])
def test_unpack_stl10_refuses_other_files(tmp_path, damage):
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
