"""Files that are complete or absent, and inputs that are missing or damaged."""

import numpy as np
import pytest

from stages.pipeline.errors import UserError
from stages.pipeline.files import atomic_write, read_array, read_json, require


def test_atomic_write_replaces_file_and_directory(tmp_path):
    target = tmp_path / "deep" / "out"
    with atomic_write(target) as temporary:
        temporary.write_text("one")

    def fail():
        with atomic_write(target) as temporary:
            temporary.write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "one"
    with atomic_write(tmp_path / "deep") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("three")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "new"]


def test_inputs_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.npy is missing: run `dvc repro label`"):
        require(tmp_path / "x.npy", "label")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(UserError, match="is damaged"):
        read_array(tmp_path / "x.npy", "label", np.int64)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_json(tmp_path / "x.json", "label", dict[str, int])
    (tmp_path / "x.json").write_text('{"labels": "many"}')
    with pytest.raises(UserError, match=r"x\.json is damaged \(labels: .*integer.*run `dvc repro label`"):
        read_json(tmp_path / "x.json", "label", dict[str, int])
    (tmp_path / "x.json").write_text('{"labels": 3}')
    assert read_json(tmp_path / "x.json", "label", dict[str, int]) == {"labels": 3}


def test_read_array_refuses_other_data_type(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(UserError, match="it holds float64, not int64"):
        read_array(tmp_path / "x.npy", "label", np.int64)
