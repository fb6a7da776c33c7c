"""The lock file: complete, pinned, hashed, and audited where the advisories can be had."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
from helpers.structure import ROOT

LOCK = (ROOT / "requirements.lock").read_text()


def test_requirements_are_pinned_and_hashed():
    pins = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    assert len(pins) > 50
    assert [pin for pin in pins if not re.match(r"[a-z0-9.-]+==\S+", pin) or "--hash=sha256:" not in pin] == []
    assert "://" not in LOCK


def test_requirements_cover_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["test"]
    names = {re.match(r"[a-z0-9.-]+", wish).group() for wish in wanted}
    assert names <= set(re.findall(r"^([a-z0-9.-]+)==", LOCK, re.MULTILINE))


@pytest.mark.slow
def test_requirements_have_no_known_vulnerability():
    audit = [sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "requirements.lock"), "--disable-pip"]
    more = ["--require-hashes", "--progress-spinner", "off", "--timeout", "15", "--format", "json"]
    done = subprocess.run([*audit, *more], capture_output=True, text=True, timeout=300, check=False)
    if not done.stdout:
        pytest.skip(f"the advisories cannot be had here: {done.stderr.strip().splitlines()[-1][:200]}")
    found = json.loads(done.stdout)["dependencies"]
    audited = [dependency for dependency in found if "vulns" in dependency]
    if not audited:
        pytest.skip("the advisories cannot be had here: no dependency is known to their server")
    assert [dependency for dependency in audited if dependency["vulns"]] == []
