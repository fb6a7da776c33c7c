"""Copies among images: found, named, and left out where they would be trained on and tested with."""

import shutil

import numpy as np
import pytest
from PIL import Image

from stages.images.sources.copies import Copy, find_copies
from stages.images.sources.folder import read_folder
from stages.pipeline.image_set import open_images


def _scene(seed, size=120):
    """A smooth random picture, as different from others as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    return coarse.resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder of 200 pictures, to which 20 exact copies and 20 saved again are added, in other splits and classes."""
    root = tmp_path_factory.mktemp("planted")
    splits = ["train/cat", "train/dog", "test/cat", "test/dog", "unlabeled"]
    for split in splits:
        (root / split).mkdir(parents=True)
    for seed in range(200):
        _scene(seed).save(root / splits[seed % 5] / f"{seed:03}.png")

    expected = {}
    for seed in range(40):
        source, place = root / splits[seed % 5] / f"{seed:03}.png", root / splits[(seed + 1 + seed // 5) % 5]
        if seed < 20:
            copy = place / f"{seed:03}-copy.png"
            shutil.copy(source, copy)
        elif seed < 30:
            copy = place / f"{seed:03}-again.jpg"
            Image.open(source).save(copy, quality=30)
        else:
            copy = place / f"{seed:03}-small.png"
            Image.open(source).resize((50, 50)).save(copy)
        expected[seed] = "exact" if seed < 20 else "near"
    return root, expected


def test_read_folder_names_planted_copies_and_nothing_else(planted, tmp_path):
    root, expected = planted
    report = read_folder(root, 96, tmp_path / "images")
    table = report.copies
    seeds = [int(name.rpartition("/")[2][:3]) for name in table["file"]]
    assert dict(zip(seeds, table["kind"], strict=True)) == expected
    assert [int(name.rpartition("/")[2][:3]) for name in table["copy_of"]] == seeds

    left_out = set(table["file"][table["left_out"]])
    assert left_out == {
        row.file for row in table.itertuples() if row.copy_of.startswith("test/") and not row.file.startswith("test/")
    }
    images = open_images(tmp_path / "images")
    assert not left_out & {*images.files["train"], *images.files["unlabeled"]}
    assert len(images.train) + len(images.unlabeled) + len(images.test) == 240 - len(left_out)
    others = table[(table["class"] != "") & (table["copy_of_class"] != "") & (table["class"] != table["copy_of_class"])]
    assert [note.partition(":")[0] for note in report.notes] == [
        "40 images are copies, 20 of them exact",
        f"{len(left_out)} left out, copies of test images",
        f"{len(others)} copies of an image with another class",
    ]


def test_read_folder_leaves_arrays_of_others_as_they_are(planted, tmp_path):
    root, _ = planted
    read_folder(root, 32, tmp_path / "images")
    images = open_images(tmp_path / "images")
    for split, array in (("train", images.train), ("unlabeled", images.unlabeled)):
        for number in (0, len(array) - 1):
            expected = np.asarray(Image.open(root / images.files[split][number]).resize((32, 32), 1))
            assert np.abs(array[number].astype(int) - expected).mean() < 1


def test_find_copies_passes_over_pictures_without_contrast():
    flat = [np.full((32, 32, 3), level, np.uint8) for level in (0, 1, 2, 1)]
    assert find_copies(flat) == [Copy(3, 1, is_exact=True)]


def test_find_copies_names_first_of_many():
    picture = np.asarray(_scene(3, 32))
    assert find_copies([picture] * 5) == [Copy(number, 0, is_exact=True) for number in range(1, 5)]
    assert find_copies([]) == []


def test_find_copies_tells_objects_before_a_fixed_background_apart():
    rng, background = np.random.default_rng(0), np.asarray(_scene(5, 96)).astype(float)
    pictures = []
    for number in range(40):
        picture = background + rng.normal(0, 4, background.shape)
        top, left = rng.integers(0, 80, 2)
        picture[top : top + 14, left : left + 14] = (number % 2) * 255
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    assert len(find_copies(pictures)) <= 1


def test_find_copies_prefers_the_first_that_is_alike():
    """The third is nearer to the second, which is no copy of the first."""
    first = np.asarray(_scene(7, 64)).astype(int).clip(20, 220)
    pictures = [(first + levels).astype(np.uint8) for levels in (0, 6, 3)]
    assert find_copies(pictures) == [Copy(2, 0, is_exact=False)]


def test_read_folder_leaves_out_copies_of_images_set_aside(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for seed in range(40):
        _scene(seed).save(root / f"{seed}.png")
    read_folder(root, 32, tmp_path / "before", test_images=8)
    aside = open_images(tmp_path / "before").files["set_aside"]
    for name in aside[:3]:
        Image.open(root / name).save(root / f"again-{name}.jpg", quality=50)
    report = read_folder(root, 32, tmp_path / "after", test_images=8)
    assert set(report.copies["copy_of"]) | set(report.copies["file"]) >= set(aside[:3])
    images = open_images(tmp_path / "after")
    names = [name for split in images.files.values() for name in split]
    assert len(names) == 43 - report.copies["left_out"].sum()
    assert set(report.copies["file"][report.copies["left_out"]]) == {path.name for path in root.iterdir()} - set(names)
    assert "set_aside" not in images.shapes


def test_read_folder_keeps_copies_if_asked(planted, tmp_path):
    root, _ = planted
    report = read_folder(root, 32, tmp_path / "images", leave_out_copies=False)
    assert len(report.copies) == 40
    assert not report.copies["left_out"].any()
    images = open_images(tmp_path / "images")
    assert len(images.train) + len(images.unlabeled) + len(images.test) == 240


def test_find_copies_tells_pictures_of_one_kind_apart():
    """Stripes with noise, which differ in the noise alone."""
    rng = np.random.default_rng(0)
    stripes = (np.arange(32) // 3 % 2)[:, None, None] * np.ones((32, 32, 3)) * 150
    pictures = [(stripes + rng.random((32, 32, 3)) * 100).astype(np.uint8) for _ in range(60)]
    assert find_copies(pictures) == []
