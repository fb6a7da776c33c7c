"""Images of a batch, from memory-mapped files to the device."""

import numpy as np
import pytest
import torch

from stages.files import UserError, map_array
from stages.learning.batches import Pictures, ShuffledBatches, pick_device


def test_batches_visit_every_image_once_an_epoch():
    batches = ShuffledBatches(10, 3, torch.Generator().manual_seed(0))
    for _ in range(3):
        epoch, foretold = [], None
        for _ in range(3):
            batch = next(batches)
            assert foretold is None or torch.equal(batch, foretold)
            foretold = batches.ahead()
            epoch.append(batch)
        assert foretold is None
        assert len(set(torch.cat(epoch).tolist())) == 9


def test_pictures_are_those_of_all_parts_in_order_whether_or_not_they_were_foretold(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (count, 4, 4, 3), np.uint8) for count in (20, 10)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    parts = [np.array([19, 3, 4]), np.array([0, 9])]
    pictures = Pictures([(map_array(tmp_path / f"{n}.npy"), parts[n]) for n in (0, 1)], torch.device("cpu"))
    whole = np.concatenate([array[chosen] for array, chosen in zip(arrays, parts, strict=True)])
    assert len(pictures) == 5
    assert np.array_equal(pictures.first(4), whole[:4])
    assert np.array_equal(pictures.first(99), whole)
    for chosen, ahead in (([4, 0, 2], [1, 3]), ([1, 3], [0, 1]), ([3, 2], None), ([0], None)):
        found = pictures.batch(torch.tensor(chosen), None if ahead is None else torch.tensor(ahead))
        assert np.array_equal(found, whole[chosen])


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UserError, match="asks for GPU 3, but PyTorch finds none"):
        pick_device()
    for absent in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", absent)
        assert pick_device().type == "cpu"
