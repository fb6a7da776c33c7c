"""Images of one's own, in every mode and orientation, and what can be wrong with them."""

import numpy as np
import pytest
from PIL import Image

from stages.images.sources.folder import read_folder, read_image
from stages.pipeline.errors import UserError
from stages.pipeline.image_set import open_images

RED = (200, 30, 10)


@pytest.fixture
def folder(tmp_path):
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for number, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (40 + i, 30), (number * 200, i * 50, 0)).save(tmp_path / split / name / f"{i}.png")
    (tmp_path / "unlabeled" / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (9, 99), RED).save(tmp_path / "unlabeled" / "deep" / "er" / "x.jpg")
    (tmp_path / "unlabeled" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    return tmp_path


def test_read_folder_layout_and_labels(folder, tmp_path):
    read_folder(folder, 16, tmp_path / "images")
    images = open_images(tmp_path / "images")
    assert images.classes == ("cat", "dog")
    assert images.train.shape == images.test.shape == (6, 16, 16, 3)
    assert images.unlabeled.shape == (1, 16, 16, 3)
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert (images.train[4] == (200, 50, 0)).all()


def test_read_image_converts_every_mode(tmp_path):
    red = Image.new("RGB", (20, 20), RED)
    half = Image.new("RGBA", (20, 20), (*RED, 0))
    grey16 = Image.fromarray(np.full((20, 20), 257 * 100, np.uint16))
    cases = {
        "rgb.png": (red, RED),
        "palette.gif": (red.convert("P", palette=Image.Palette.ADAPTIVE), RED),
        "grey.png": (Image.new("L", (20, 20), 77), (77, 77, 77)),
        "one.png": (Image.new("1", (20, 20), 1), (255, 255, 255)),
        "alpha.png": (half, (255, 255, 255)),
        "grey_alpha.png": (Image.new("LA", (20, 20), (50, 255)), (50, 50, 50)),
        "cmyk.jpg": (red.convert("CMYK"), RED),
        "grey16.png": (grey16, (100, 100, 100)),
        "grey16.tiff": (grey16, (100, 100, 100)),
        "int32.tiff": (Image.fromarray(np.full((20, 20), 257 * 100, np.int32)), (100, 100, 100)),
        "float.tiff": (Image.fromarray(np.full((20, 20), 0.7, np.float32)), (255, 255, 255)),
        "web.webp": (red, RED),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name)
        found = read_image(tmp_path / name, 8)
        assert found.shape == (8, 8, 3), name
        assert found.dtype == np.uint8, name
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=6, err_msg=name)


def test_read_image_lays_transparency_on_white(tmp_path):
    image = Image.new("P", (10, 10), 3)
    image.putpalette([0] * 768)
    image.save(tmp_path / "p.png", transparency=3)
    assert (read_image(tmp_path / "p.png", 8) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_image_applies_exif_orientation(tmp_path, orientation):
    upright = Image.new("RGB", (32, 32))
    upright.paste((255, 255, 255), (0, 0, 16, 16))
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(turn[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    found = read_image(tmp_path / "turned.png", 8)
    assert found[:4, :4].min() > 200
    assert found[4:].max() < 60


def test_read_image_takes_central_square(tmp_path):
    wide = Image.new("RGB", (90, 30), (0, 0, 0))
    wide.paste((255, 255, 255), (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 10).min() > 230


def _break(folder, what):
    if what == "no split":
        (folder / "test").rename(folder / "exam")
    elif what == "no unlabelled":
        (folder / "unlabeled").rename(folder / "more")
    elif what == "empty class":
        (folder / "train" / "owl").mkdir()
    elif what == "unknown class":
        (folder / "test" / "owl").mkdir()
        Image.new("RGB", (9, 9)).save(folder / "test" / "owl" / "o.png")
    elif what == "one class":
        (folder / "train" / "dog").rename(folder / "dog")
    elif what == "broken image":
        path = folder / "train" / "dog" / "1.png"
        path.write_bytes(path.read_bytes()[:60])
    elif what == "text":
        (folder / "test" / "cat" / "9.jpg").write_text("not an image")


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("no split", r"test is not there.*needs train/<class>/, test/<class>/ and unlabeled/"),
        ("no unlabelled", "unlabeled is not there"),
        ("empty class", "owl holds no images"),
        ("unknown class", "class 'owl' has no images in .*train"),
        ("one class", "holds 1 class directories"),
        ("broken image", r"dog/1\.png cannot be read as an image"),
        ("text", r"cat/9\.jpg cannot be read as an image"),
    ],
)
def test_read_folder_names_fault_and_leaves_nothing(folder, tmp_path, what, complaint):
    _break(folder, what)
    with pytest.raises(UserError, match=complaint):
        read_folder(folder, 16, tmp_path / "data" / "images")
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir())


def test_read_image_refuses_absurd_size(tmp_path, monkeypatch):
    Image.new("1", (3000, 3000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(UserError, match=r"bomb\.png cannot be read"):
        read_image(tmp_path / "bomb.png", 8)
