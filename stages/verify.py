"""Check that what the pipeline made is still, byte for byte, what dvc.lock recorded. Reads everything; changes nothing."""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.files import UserError, checksum
from stages.params import read_yaml
from stages.progress import progress


def recorded_outputs(lock: str | Path = "dvc.lock") -> dict[Path, str]:
    """Path of every output to the MD5 that DVC recorded; that of a directory ends in `.dir`.

    Raises:
        UserError: there is no lock file.
    """
    stages = read_yaml(lock).get("stages", {})
    return {Path(out["path"]): out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def differences(path: Path, recorded: str, cache: Path = Path(".dvc/cache")) -> Iterator[str]:
    """What of an output is not as recorded: one line each, naming the file where DVC's cache still lists them.

    Args:
        path: of the output.
        recorded: its MD5; for a directory that of its listing, as DVC writes it: JSON, sorted by path.
        cache: of DVC.
    """
    if not path.exists():
        yield f"{path} is missing"
    elif not recorded.endswith(".dir"):
        if checksum(path, "md5") != recorded:
            yield f"{path} has changed"
    else:
        files = sorted(file for file in path.rglob("*") if file.is_file())
        found = {file.relative_to(path).as_posix(): checksum(file, "md5") for file in files}
        listing = json.dumps([{"md5": found[name], "relpath": name} for name in sorted(found)], sort_keys=True)
        if f"{hashlib.md5(listing.encode()).hexdigest()}.dir" != recorded:
            listed = cache / "files" / "md5" / recorded[:2] / recorded[2:]
            if not listed.exists():
                yield f"{path} has changed, in a file that cannot be named, since DVC's cache does not list the directory"
                return
            expected = {entry["relpath"]: entry["md5"] for entry in json.loads(listed.read_text(encoding="utf-8"))}
            for name in sorted(expected.keys() | found.keys()):
                if expected.get(name) != found.get(name):
                    what = "is missing" if name not in found else "has changed" if name in expected else "is not ours"
                    yield f"{path / name} {what}"


def main() -> None:
    argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__).parse_args()
    try:
        outputs = recorded_outputs()
        wrong = [
            line
            for path in progress(outputs, title="verify", unit="output")
            for line in differences(path, outputs[path])
        ]
    except UserError as error:
        sys.exit(f"verify: {error}")
    if wrong:
        listed = "\n".join(f"  {line}" for line in wrong)
        sys.exit(
            f"verify: {len(wrong)} of the recorded files are not what they were; `dvc checkout --force`, or `dvc repro --force <stage>`, mends them\n{listed}"
        )
    print(f"verify: all {len(outputs)} outputs are what dvc.lock recorded")


if __name__ == "__main__":
    main()
