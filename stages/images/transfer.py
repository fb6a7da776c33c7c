"""Fetching one large file: resumed where it broke off, verified before anyone reads it."""

from pathlib import Path

import requests

from stages.files import UserError, checksum, require_space
from stages.progress import progress

_CHUNK = 1 << 16
_TIMEOUT = (10, 60)


def fetch(url: str, path: Path, md5: str) -> Path:
    """Bring `url` to `path`, going on from what an earlier, broken attempt left there.

    Args:
        url: HTTP or HTTPS address.
        path: where the file goes; a partial file beside it, `<name>.part`, holds what has arrived so far.
        md5: of the whole file, as hexadecimal digits.

    Returns:
        `path`, holding bytes with that checksum.

    Raises:
        UserError: the server refuses, breaks off or sends something else; what has arrived is kept where it can be of use.
    """
    if path.exists() and checksum(path, "md5") == md5:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _append(url, part)
    except requests.HTTPError as error:
        raise UserError(
            f"{url}: the server answers {error.response.status_code} {error.response.reason}: see dataset.url"
        ) from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        arrived = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{url}: the transfer broke off after {arrived:,} bytes ({_cause(error)}): run again, it goes on from there"
        ) from error
    except requests.RequestException as error:
        raise UserError(f"{url}: {_cause(error)}: see dataset.url") from error
    found = checksum(part, "md5")
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url}: the file has MD5 {found}, expected {md5}: it was discarded; run again, or see dataset.md5"
        )
    part.replace(path)
    return path


def _append(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
        rest = int(answer.headers.get("Content-Length", 0))
        require_space(part.parent, rest, f"the rest of {url}")
        arrived = 0
        with (
            part.open("ab" if have else "wb") as file,
            progress(title="download", unit="B", total=have + rest, done=have) as bar,
        ):
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                arrived += len(chunk)
                bar.update(len(chunk))
        if arrived < rest:
            raise requests.ConnectionError(f"{rest - arrived:,} bytes did not arrive")


def _cause(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    error = getattr(error, "reason", error)
    return " ".join(str(error).split()) or type(error).__name__
