"""Download of one large file: resumed after an interruption, verified before it is used."""

from pathlib import Path

import requests
import urllib3

from stages.pipeline.errors import UserError
from stages.pipeline.files import checksum, require_space
from stages.pipeline.progress import progress

_CHUNK = 1 << 16
_CONNECT_AND_READ_SECONDS = (10, 60)


def fetch(url: str, path: Path, md5: str) -> Path:
    """Download a file, resuming from what an earlier, interrupted attempt left.

    Args:
        url: HTTP or HTTPS address of the file.
        path: Where the file goes. A partial file beside it, `<name>.part`, holds what has arrived so far.
        md5: Expected MD5 of the whole file as hexadecimal digits.

    Returns:
        `path`, which holds a file with that checksum.

    Raises:
        UserError: The server refuses, breaks off or sends something else. What has arrived is kept if a later attempt
            can resume from it.
    """
    if path.exists() and checksum(path, "md5") == md5:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")

    try:
        _append_rest(url, part)
    except requests.HTTPError as error:
        status = f"{error.response.status_code} {error.response.reason}"
        raise UserError(f"{url}: the server answers {status}: check dataset.url") from error
    except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
        arrived = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{url}: the transfer broke off after {arrived:,} bytes ({_cause(error)}): run again to resume"
        ) from error
    except requests.RequestException as error:
        raise UserError(f"{url}: {_cause(error)}: check dataset.url") from error

    found = checksum(part, "md5")
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url}: the file has MD5 {found}, expected {md5}: it was discarded; run again, or check dataset.md5"
        )
    part.replace(path)
    return path


def _append_rest(url: str, part: Path) -> None:
    """Append to a partial file what it lacks; a server that cannot resume sends everything, which then replaces it."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_CONNECT_AND_READ_SECONDS) as answer:
        # 416: nothing is left to send. 206: the rest follows. Anything else that is no error: the whole file follows.
        if answer.status_code == 416:
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
        rest = int(answer.headers.get("Content-Length", 0))
        require_space(part.parent, rest, f"the rest of {url}")

        arrived = 0
        bar = progress(title="download", unit="B", total=have + rest, done=have)
        with part.open("ab" if have else "wb") as file, bar:
            # As sent: some servers call the archive's own compression a Content-Encoding, which would be undone.
            for chunk in answer.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                arrived += len(chunk)
                bar.update(len(chunk))
        if arrived < rest:
            raise requests.ConnectionError(f"{rest - arrived:,} bytes did not arrive")


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a network error in one line."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    reason = getattr(error, "reason", error)
    return " ".join(str(reason).split()) or type(error).__name__
