"""Show and remove what interrupted runs have left in .scratch/; what a run at work needs stays."""

import argparse
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from stages.files import UserError
from stages.scratch import SCRATCH, one_writer


def left_over(scratch: Path = SCRATCH) -> list[tuple[Path, int, datetime]]:
    """Directory of each run that left something, with its size in bytes and when it last grew, oldest first."""
    found = []
    for directory in scratch.iterdir() if scratch.is_dir() else []:
        files = [path.stat() for path in directory.rglob("*") if path.is_file()]
        if directory.name != "locks" and files:
            grown = datetime.fromtimestamp(max(file.st_mtime for file in files)).astimezone()
            found.append((directory, sum(file.st_size for file in files), grown))
    return sorted(found, key=lambda item: item[2])


def main() -> None:
    argparse.ArgumentParser(prog="python -m stages.clean_scratch", description=__doc__).parse_args()
    for directory, size, grown in left_over():
        line = f"{size / 2**20:9,.1f} MiB  {grown:%Y-%m-%d %H:%M}  {directory}"
        with suppress(UserError), one_writer(directory.name, patience=0):
            shutil.rmtree(directory)
            print(f"{line}  removed")
            continue
        print(f"{line}  kept: its run is at work")


if __name__ == "__main__":
    main()
