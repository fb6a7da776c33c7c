"""Show and remove what interrupted runs left in .scratch/; what a running stage needs is kept."""

import argparse
import shutil
from datetime import datetime

from stages.pipeline.errors import UserError
from stages.pipeline.scratch import SCRATCH, file_lock


def main() -> None:
    argparse.ArgumentParser(prog="python -m stages.clean_scratch", description=__doc__).parse_args()
    for directory in sorted(SCRATCH.iterdir()) if SCRATCH.is_dir() else []:
        if directory.name == "locks" or not any(directory.iterdir()):
            continue
        try:
            with file_lock(directory.name, patience=0):
                files = [path.stat() for path in directory.rglob("*") if path.is_file()]
                size = sum(file.st_size for file in files)
                changed = max(file.st_mtime for file in [*files, directory.stat()])
                shutil.rmtree(directory)
        except UserError:
            print(f"{directory} is kept: its stage is still running")
        else:
            when = datetime.fromtimestamp(changed).astimezone()
            print(f"{size / 2**20:9,.1f} MiB  {when:%Y-%m-%d %H:%M}  {directory}  removed")


if __name__ == "__main__":
    main()
