"""Check that every output of the pipeline is, byte for byte, what dvc.lock recorded; nothing is changed."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.pipeline.errors import UserError
from stages.pipeline.files import checksum
from stages.pipeline.params import read_yaml
from stages.pipeline.progress import progress


def recorded_outputs(lock: str | Path = "dvc.lock") -> dict[Path, str]:
    """Return the MD5 that DVC recorded for every output, by path; that of a directory ends in `.dir`.

    Raises:
        UserError: The lock file is missing or damaged.
    """
    stages = read_yaml(lock).get("stages", {})
    return {Path(out["path"]): str(out["md5"]) for stage in stages.values() for out in stage.get("outs", [])}


def differences(path: Path, recorded: str, cache: Path = Path(".dvc/cache")) -> Iterator[str]:
    """Yield one line for each file in which an output differs from what was recorded.

    Args:
        path: Path of the output, a file or a directory.
        recorded: MD5 that DVC recorded for it.
        cache: Cache of DVC, which knows the files of a directory by name.
    """
    if not path.exists():
        yield f"{path} is missing"
    elif not recorded.endswith(".dir"):
        if checksum(path, "md5") != recorded:
            yield f"{path} has changed"
    else:
        found = directory_checksums(path)
        if listing_checksum(found) != recorded:
            yield from _differences_in_directory(path, found, cache / "files" / "md5" / recorded[:2] / recorded[2:])


def directory_checksums(path: Path) -> dict[str, str]:
    """Return the MD5 of every file below a directory that DVC tracks, by its path relative to the directory."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(path).as_posix(): checksum(file, "md5") for file in files}


def listing_checksum(checksums: dict[str, str]) -> str:
    """Return what DVC records for a directory of files with these MD5s: that of its listing as JSON, and `.dir`."""
    listing = json.dumps([{"md5": checksums[name], "relpath": name} for name in sorted(checksums)], sort_keys=True)
    return f"{hashlib.md5(listing.encode()).hexdigest()}.dir"


def _differences_in_directory(path: Path, found: dict[str, str], listing: Path) -> Iterator[str]:
    if not listing.exists():
        yield f"{path} has changed, in a file that cannot be named, since DVC's cache does not list the directory"
        return
    recorded = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text(encoding="utf-8"))}
    for name in sorted(recorded.keys() | found.keys()):
        if name not in found:
            yield f"{path / name} is missing"
        elif name not in recorded:
            yield f"{path / name} was not recorded: move it elsewhere"
        elif found[name] != recorded[name]:
            yield f"{path / name} has changed"


def main() -> None:
    argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__).parse_args()
    try:
        outputs = recorded_outputs()
        lines = [
            line
            for path in progress(outputs, title="verify", unit="output")
            for line in differences(path, outputs[path])
        ]
    except UserError as error:
        sys.exit(f"verify: {error}")

    if lines:
        repair = "`dvc checkout --force` or `dvc repro --force <stage>` repairs them"
        listed = "".join(f"\n  {line}" for line in lines)
        sys.exit(f"verify: {len(lines)} files are not what dvc.lock recorded: {repair}{listed}")
    print(f"verify: all {len(outputs)} outputs are what dvc.lock recorded")


if __name__ == "__main__":
    main()
