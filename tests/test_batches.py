"""Images of a batch, from memory-mapped files to the device."""

import numpy as np
import pytest
import torch

from stages.models import device
from stages.models.batches import ImagePool, ShuffledBatches
from stages.models.device import pick_device
from stages.pipeline.errors import UserError
from stages.pipeline.files import map_array
from stages.pipeline.processes import is_main_process, launched_processes


def test_shuffled_batches_visit_every_image_once_per_epoch():
    batches = ShuffledBatches(10, 3, torch.Generator().manual_seed(0))
    for _ in range(3):
        epoch, upcoming = [], None
        for _ in range(3):
            batch = next(batches)
            assert upcoming is None or torch.equal(batch, upcoming)
            upcoming = batches.upcoming()
            epoch.append(batch)
        assert upcoming is None
        assert len(set(torch.cat(epoch).tolist())) == 9


def test_shuffled_batches_larger_than_data_repeat_every_image():
    batches = ShuffledBatches(4, 6, torch.Generator().manual_seed(0))
    for _ in range(5):
        counts = np.bincount(next(batches), minlength=4)
        assert counts.sum() == 6
        assert set(counts) == {1, 2}


def test_image_pool_batch_equals_concatenated_parts(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (count, 4, 4, 3), np.uint8) for count in (20, 10)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    parts = [np.array([19, 3, 4]), np.array([0, 9])]
    pool = ImagePool([(map_array(tmp_path / f"{n}.npy", np.uint8), parts[n]) for n in (0, 1)], torch.device("cpu"))
    whole = np.concatenate([array[chosen] for array, chosen in zip(arrays, parts, strict=True)])
    assert len(pool) == 5
    assert np.array_equal(pool.spread(2), whole[[0, 2]])
    assert np.array_equal(pool.spread(99), whole)
    for chosen, upcoming in (([4, 0, 2], [1, 3]), ([1, 3], [0, 1]), ([3, 2], None), ([0], None)):
        found = pool.batch(torch.tensor(chosen), None if upcoming is None else torch.tensor(upcoming))
        assert np.array_equal(found, whole[chosen])


def test_pick_device_refuses_missing_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match="asks for GPU 3, but PyTorch finds none"):
        pick_device()
    for absent in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", absent)
        assert pick_device().type == "cpu"


def test_pick_device_says_once_that_a_gpu_is_not_used(monkeypatch, tmp_path, capsys):
    for name, vendor, kind in (("0", "0x8086", "0x030000"), ("1", "0x10de", "0x040300"), ("2", "0x10de", "0x030200")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_PCI", tmp_path)
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "version")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    device._report_unused_gpu.cache_clear()
    assert pick_device().type == "cpu"
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    pick_device()
    pick_device()
    assert capsys.readouterr().err.count("there is an NVIDIA GPU") == 1

    (tmp_path / "2" / "class").write_text("0x068000\n")
    device._report_unused_gpu.cache_clear()
    pick_device()
    assert capsys.readouterr().err == ""
    device._report_unused_gpu.cache_clear()


def test_processes_are_those_of_torchrun_alone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (is_main_process(), launched_processes()) == (True, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    assert (is_main_process(), launched_processes()) == (False, 8)
