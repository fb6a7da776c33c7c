"""Show and remove what interrupted runs have left in .scratch/; what a run at work needs stays."""

import argparse
import shutil
from datetime import datetime

from stages.files import UserError
from stages.scratch import SCRATCH, one_writer


def main() -> None:
    argparse.ArgumentParser(prog="python -m stages.clean_scratch", description=__doc__).parse_args()
    for directory in sorted(SCRATCH.iterdir()) if SCRATCH.is_dir() else []:
        if directory.name == "locks" or not any(directory.iterdir()):
            continue
        try:
            with one_writer(directory.name, patience=0):
                files = [path.stat() for path in directory.rglob("*") if path.is_file()]
                grown = datetime.fromtimestamp(max(file.st_mtime for file in [*files, directory.stat()])).astimezone()
                shutil.rmtree(directory)
                size = sum(file.st_size for file in files)
                print(f"{size / 2**20:9,.1f} MiB  {grown:%Y-%m-%d %H:%M}  {directory}  removed")
        except UserError:
            print(f"{directory} is kept: its run is at work")


if __name__ == "__main__":
    main()
