"""Small archives in the layout of STL-10, and servers that misbehave on purpose."""

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


def stl10_files(train: int = 40, test: int = 20, unlabeled: int = 700) -> dict[str, bytes]:
    """Return the files of the official archive, by name, with random pixels and as few images as the arguments say."""
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(train) % 10 + 1, "test": np.arange(test)[::-1] % 10 + 1}
    files = {f"{name}_y.bin": values.astype(np.uint8).tobytes() for name, values in labels.items()}
    for name, count in (("train", train), ("test", test), ("unlabeled", unlabeled)):
        files[f"{name}_X.bin"] = rng.integers(0, 256, (count, 3, 96, 96), np.uint8).tobytes()
    files["class_names.txt"] = ("\n".join(CLASSES) + "\n").encode()
    folds = [np.sort(rng.permutation(train)[:10]) for _ in range(10)]
    files["fold_indices.txt"] = "".join(" ".join(map(str, fold)) + " \n" for fold in folds).encode()
    return files


def write_archive(path: Path, files: dict[str, bytes]) -> str:
    """Write a tar.gz archive of `files`, under `stl10_binary/` where a name has no directory, and return its MD5."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name if "/" in name else f"stl10_binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with ranges, and does what the attributes of the server say; see `serve`."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if self.server.status:
            self.send_error(self.server.status)
            return
        body = Path(self.translate_path(self.path)).read_bytes()
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
        if start >= len(body):
            self.send_error(416)
            return

        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        sent = body[start : start + self.server.cut] if self.server.cut else body[start:]
        self.server.cut = None
        self.server.served.append((start, len(sent)))
        self.wfile.write(sent)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve(
    directory: Path, cut: int | None = None, status: int | None = None, encoding: str | None = None
) -> Iterator[tuple[str, list]]:
    """Run a local server.

    Args:
        directory: What it serves.
        cut: Number of bytes after which it breaks off its first answer.
        status: HTTP status of every answer, instead of a file.
        encoding: Content-Encoding that it claims, as some servers do for an archive that is compressed itself.

    Yields:
        The address of the server, and a growing list of (start, bytes) that it sent.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(directory)))
    server.cut, server.status, server.encoding, server.served = cut, status, encoding, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
