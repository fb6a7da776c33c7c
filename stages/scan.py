"""Notice whether images or labels of one's own have changed, so that `dvc repro` reads them again: data/scan.json."""

import hashlib
import os
from pathlib import Path

from stages.images.sources.walk import files_below
from stages.pipeline.files import write_json
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage


def main(params: Params) -> str:
    """Describe all files by their names, sizes and times of change, which takes about a second for 100,000 files."""
    path, count, digest = params.dataset.path, 0, hashlib.sha256()
    if params.dataset.source == "folder" and path and Path(path).is_dir():
        for entry in files_below(path, {}):
            status = entry.stat()
            name = os.fsencode(os.path.relpath(entry.path, path))
            digest.update(b"%s\0%d\0%d\0" % (name, status.st_size, status.st_mtime_ns))
            count += 1
    write_json("data/scan.json", {"files": count, "sha256": digest.hexdigest()})
    return f"{count:,} files of your own"


if __name__ == "__main__":
    run_stage(main, __doc__)
