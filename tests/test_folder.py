"""Images of one's own, in every mode and orientation, and what can be wrong with them."""

import io
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.images.sources.decoding import read_image
from stages.images.sources.folder import read_folder
from stages.images.sources.labels import read_table
from stages.images.subsets import draw_labeled
from stages.pipeline.errors import UserError
from stages.pipeline.image_set import open_images

RED = (200, 30, 10)


@pytest.fixture
def folder(tmp_path):
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for number, name in enumerate(names):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                colour = (number * 200, i * 50, len(split))
                Image.new("RGB", (40 + i, 30), colour).save(tmp_path / split / name / f"{i}.png")
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
    assert (images.train[4] == (200, 50, 5)).all()


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


FORMATS = {
    "png": {},
    "jpg": {"quality": 95},
    "webp": {"lossless": True},
    "avif": {"quality": 95},
    "tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "deflate.tif": {"compression": "tiff_adobe_deflate"},
    "deep.tif": {},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", FORMATS)
def test_read_image_applies_orientation_in_every_format(tmp_path, ending, orientation):
    """The image is wider than high once it is upright, so that a crop before turning would be seen."""
    upright = Image.new("L", (48, 32))
    upright.paste(255, (8, 0, 24, 16))
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(turn[orientation])) if orientation > 1 else upright
    path = tmp_path / f"turned.{ending}"
    if ending == "deep.tif":
        stored = Image.fromarray(np.asarray(stored).astype(np.uint16) * 257)
    if ending.endswith("tif"):
        stored.save(path, tiffinfo={274: orientation}, **FORMATS[ending])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.convert("RGB").save(path, exif=exif, **FORMATS[ending])
    found = read_image(path, 8)
    assert found[:4, :4].min() > 180
    assert found[4:].max() < 70
    assert found[:4, 5:].max() < 70


def _jpeg_with_exif(payload):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), RED).save(stream, "JPEG", quality=95, dpi=(72, 72))
    content = stream.getvalue()
    after_jfif = 2 + 2 + 16
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    return content[:after_jfif] + segment + content[after_jfif:]


def _png_with_chunk(kind, payload, *, last=False):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), RED).save(stream, "PNG")
    content = stream.getvalue()
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    place = len(content) - 12 if last else 33
    return content[:place] + chunk + content[place:]


RAW_PROFILE = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n  zz\nxyz\n")
LONG_TEXT = b"Comment\0\0" + zlib.compress(b"a" * 2_000_000)
BROKEN_METADATA = {
    "blank.jpg": _jpeg_with_exif(b"Exif\x00\x00"),
    "text.jpg": _jpeg_with_exif(b"Exif\x00\x00b'Exif\\x00\\x00MM\\x00*'"),
    "zeros.jpg": _jpeg_with_exif(b"Exif\x00\x00" + b"\x00" * 12),
    "beyond.jpg": _jpeg_with_exif(b"Exif\x00\x00MM\x00*\x00\x00\xff\xff"),
    "truncated.jpg": _jpeg_with_exif(b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12"),
    "ascii.jpg": _jpeg_with_exif(
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\x00\x02z\x00\x00\x00" + bytes(4)
    ),
    "garbage.png": _png_with_chunk(b"eXIf", b"garbage!"),
    "profile.png": _png_with_chunk(b"zTXt", RAW_PROFILE),
    "profile_after.png": _png_with_chunk(b"zTXt", RAW_PROFILE, last=True),
    "long.png": _png_with_chunk(b"zTXt", LONG_TEXT),
    "long_after.png": _png_with_chunk(b"zTXt", LONG_TEXT, last=True),
    "international.png": _png_with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"a" * 2_000_000)),
    "colours.png": _png_with_chunk(b"iCCP", b"name\0\0" + zlib.compress(b"a" * 2_000_000)),
}


@pytest.mark.parametrize("name", BROKEN_METADATA)
def test_read_image_ignores_broken_metadata(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN_METADATA[name])
    np.testing.assert_allclose(read_image(tmp_path / name, 8)[2:6, 2:6], np.broadcast_to(RED, (4, 4, 3)), atol=6)


def _ramp(dtype, most):
    return np.broadcast_to(np.linspace(0, most, 32), (32, 32)).astype(dtype)


DEEP = {
    "bytes in int32": (_ramp(np.int32, 255), {}),
    "12 bits in 16": (_ramp(np.uint16, 4095), {}),
    "10 bits in 16": (_ramp(np.uint16, 1023), {}),
    "16 bits": (_ramp(np.uint16, 65535), {}),
    "24 bits in int32": (_ramp(np.int32, 2**24 - 1), {}),
    "negative int32": (_ramp(np.int32, 510) - 255, {}),
    "float to 1": (_ramp(np.float32, 1), {}),
    "float to 300": (_ramp(np.float32, 300), {}),
    "float with NaN": (np.where(np.eye(32) * (np.arange(32) == 9), np.nan, _ramp(np.float32, 1)), {}),
    "float with infinity": (np.where(np.eye(32) * (np.arange(32) == 9), np.inf, _ramp(np.float32, 1)), {}),
    "16 bits, white is zero": (65535 - _ramp(np.uint16, 65535), {262: 0}),
}


@pytest.mark.parametrize("name", DEEP)
def test_read_image_uses_range_of_data(tmp_path, name):
    values, tags = DEEP[name]
    Image.fromarray(values.astype(np.float32) if values.dtype == np.float64 else values).save(
        tmp_path / "deep.tif", tiffinfo=tags
    )
    found = read_image(tmp_path / "deep.tif", 32)[20, :, 0].astype(float)
    np.testing.assert_allclose(found, np.linspace(0, 255, 32), atol=8)


def test_read_image_of_nothing_but_nan_is_black(tmp_path):
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    assert read_image(tmp_path / "nan.tif", 8).max() == 0


def test_read_image_takes_central_square(tmp_path):
    wide = Image.new("RGB", (90, 30), (0, 0, 0))
    wide.paste((255, 255, 255), (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    assert read_image(tmp_path / "wide.png", 10).min() > 230


def test_read_folder_counts_what_it_leaves_out(folder, tmp_path):
    cat = folder / "train" / "cat"
    (cat / ".ipynb_checkpoints").mkdir()
    shutil.copy(cat / "0.png", cat / ".ipynb_checkpoints" / "0-checkpoint.png")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(cat / "0.png", tmp_path / "elsewhere" / "linked.png")
    (cat / "linked").symlink_to(tmp_path / "elsewhere")
    (cat / "again").symlink_to(cat)
    (cat / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (cat / "phone.HEIC").write_bytes(b"")
    (cat / "no_ending").write_bytes((cat / "0.png").read_bytes())
    notes = read_folder(folder, 16, tmp_path / "images").notes
    assert open_images(tmp_path / "images").train.shape == (7, 16, 16, 3)
    text = "\n".join(notes)
    for what in (
        "1 left out, HEIC, which needs `pip install pillow-heif`: ",
        "phone.HEIC",
        "2 left out, no image by the ending of the name: ",
        "no_ending",
        "1 left out, links that lead nowhere",
    ):
        assert what in text
    assert "checkpoint" not in text


def test_read_folder_lists_first_ten_left_out(folder, tmp_path):
    for number in range(14):
        (folder / "unlabeled" / f"{number:02}.mp4").write_bytes(b"")
    (note,) = read_folder(folder, 16, tmp_path / "images").notes
    assert note.startswith("15 left out")
    assert note.endswith("08.mp4; " + str(folder / "unlabeled" / "09.mp4") + " and 5 more")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_read_folder_counts_folders_that_may_not_be_read(folder, tmp_path):
    locked = folder / "train" / "cat" / "locked"
    locked.mkdir(mode=0)
    notes = read_folder(folder, 16, tmp_path / "images").notes
    locked.chmod(0o700)
    assert any("folders that may not be read" in note for note in notes)


def test_read_folder_names_all_broken_images_at_once(folder, tmp_path):
    for split, name in (("train", "cat/0.png"), ("test", "dog/2.png"), ("unlabeled", "deep/er/y.png")):
        (folder / split / name).write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cat/0\.png.*dog/2\.png.*er/y\.png.*dataset\.skip_broken"):
        read_folder(folder, 16, tmp_path / "images")
    for number in range(30):
        (folder / "unlabeled" / f"{number:02}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"17\.png cannot be read as an image \(.*\) and 13 more: repair"):
        read_folder(folder, 16, tmp_path / "images")


def test_read_folder_skips_broken_images_if_asked(folder, tmp_path):
    (folder / "train" / "cat" / "0.png").write_bytes(b"broken")
    (folder / "unlabeled" / "y.png").write_bytes(b"broken")
    notes = read_folder(folder, 16, tmp_path / "images", skip_broken=True).notes
    images = open_images(tmp_path / "images")
    assert images.train_labels.tolist() == [0, 0, 1, 1, 1]
    assert images.train.shape == (5, 16, 16, 3)
    assert (images.train[3] == (200, 50, 5)).all()
    assert any(note.startswith("2 left out: ") and "cat/0.png" in note for note in notes)
    for number in range(3):
        (folder / "train" / "cat" / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="no image of class 'cat' of train is left that can be read"):
        read_folder(folder, 16, tmp_path / "more", skip_broken=True)


def test_read_folder_says_that_all_images_are_black(folder, tmp_path):
    for path in (folder / "test").rglob("*.png"):
        Image.new("RGB", (9, 9), (3, 3, 3)).save(path)
    (note,) = [note for note in read_folder(folder, 16, tmp_path / "images").notes if "black" in note]
    assert note.startswith("all images of test are nearly black")


def test_read_folder_takes_names_in_every_form(folder, tmp_path):
    """A name in Latin-1, and one that train has in composed and test in decomposed form, as on macOS."""
    for split, names in (("train", ("café".encode(), b"na\xefve")), ("test", ("cafe\u0301".encode(), b"na\xefve"))):
        for name in names:
            place = os.fsencode(folder / split) + b"/" + name
            shutil.copytree(folder / split / "cat", os.fsdecode(place))
    read_folder(folder, 16, tmp_path / "images")
    images = open_images(tmp_path / "images")
    assert images.classes == ("café", "cat", "dog", "naïve")
    assert np.bincount(images.test_labels).tolist() == [3, 3, 3, 3]


def test_read_folder_of_heic_alone_names_the_reason(folder, tmp_path):
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"cat holds no images that can be read \(3 HEIC, which needs"):
        read_folder(folder, 16, tmp_path / "images")


def _break(folder, what):
    if what == "no folder":
        shutil.rmtree(folder)
    elif what == "test images alone":
        shutil.rmtree(folder / "train")
    elif what == "empty class":
        (folder / "train" / "owl").mkdir()
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
        ("no folder", r"is not there: dataset.path is a folder of images, with labels\.csv, or with train/<class>/"),
        ("test images alone", r"train is not there: dataset.path"),
        ("empty class", "owl holds no images"),
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


# Labels in a table, and splits that are not there.


@pytest.fixture
def labeled(tmp_path):
    """A folder of 40 images without classes, and a function that writes its labels."""
    root = tmp_path / "photos"
    for number in range(40):
        path = root / f"{'ab'[number % 2]}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number * 6, 0, 0)).save(path)

    def write(*rows, header="picture,class,split", encoding="utf-8"):
        (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
        return root

    return write


ROWS = ("a/00.png,cat,", "a/02.png,cat,train", "b/01.png,dog,", "./b/03.png,dog,TEST", "a/04.png,cat,test")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_read_folder_takes_labels_from_table(labeled, tmp_path, delimiter):
    rows = [row.replace(",", delimiter) for row in (*ROWS, "a/06.png,,")]
    root = labeled(*rows, header=delimiter.join(("picture", "class", "split")), encoding="utf-8-sig")
    assert read_folder(root, 8, tmp_path / "images").notes == []
    images = open_images(tmp_path / "images")
    assert images.classes == ("cat", "dog")
    assert images.files["train"] == ["a/00.png", "a/02.png", "b/01.png"]
    assert images.train_labels.tolist() == [0, 0, 1]
    assert images.files["test"] == ["a/04.png", "b/03.png"]
    assert len(images.unlabeled) == 38
    assert not {"a/04.png", "b/03.png"} & set(images.files["unlabeled"])
    assert images.train[1, 0, 0, 0] == 12


def test_read_folder_takes_corrected_predictions_as_labels(labeled, tmp_path):
    rows = ("a/00.png,'=cat,0.9", "a/04.png,'=cat,0.9", "b/01.png,''tis,0.5", "b/03.png,''tis,0.5")
    read_folder(labeled(*rows, header="file,class,confidence"), 8, tmp_path / "images")
    assert open_images(tmp_path / "images").classes == ("'tis", "=cat")


def test_read_folder_adds_table_to_directories(folder, tmp_path):
    (folder / "labels.csv").write_text("picture,class\nunlabeled/deep/er/x.jpg,owl\n")
    Image.new("RGB", (9, 9)).save(folder / "unlabeled" / "y.png")
    read_folder(folder, 8, tmp_path / "images")
    images = open_images(tmp_path / "images")
    assert images.classes == ("cat", "dog", "owl")
    assert images.files["train"][-1] == "unlabeled/deep/er/x.jpg"
    assert images.files["unlabeled"] == ["unlabeled/deep/er/x.jpg", "unlabeled/y.png"]
    (folder / "labels.csv").write_text("picture,class\ntrain/cat/0.png,dog\n")
    with pytest.raises(UserError, match=r"labels\.csv, row 2: there is no unlabelled image 'train/cat/0\.png'"):
        read_folder(folder, 8, tmp_path / "images")


def test_read_folder_draws_test_images_that_stay_the_same(labeled, tmp_path):
    rows = [f"{'ab'[number % 2]}/{number:02}.png,{'cat' if number < 20 else 'dog'}" for number in range(40)]
    notes = {}
    tested = {}
    for count in (30, 40):
        root = labeled(*rows[:count], header="picture,class")
        notes[count] = read_folder(root, 8, tmp_path / "images", test_share=0.3).notes
        images = open_images(tmp_path / "images")
        tested[count] = set(images.files["test"])
        assert set(images.test_labels) == set(images.train_labels) == {0, 1}
        assert not tested[count] & set(images.files["train"])
    assert tested[30] < tested[40]
    assert 6 <= len(tested[40]) <= 18
    assert notes[30] == [
        f"{len(tested[30])} of 30 labelled images were drawn for testing, by their names, since there is no test split"
    ]
    assert len(open_images(tmp_path / "images").unlabeled) == 40 - len(tested[40])


def test_read_folder_needs_neither_test_nor_unlabelled_directory(folder, tmp_path):
    shutil.rmtree(folder / "unlabeled")
    shutil.rmtree(folder / "test")
    assert len(read_folder(folder, 8, tmp_path / "images").notes) == 2
    images = open_images(tmp_path / "images")
    assert len(images.train) + len(images.test) == 6
    assert np.array_equal(images.unlabeled, images.train)


def test_read_folder_keeps_test_images_from_the_unlabelled(folder, labeled, tmp_path):
    """Those of test/ beside a table and no train/, links to them, and those that a table names without a class."""
    root = tmp_path / "beside"
    shutil.copytree(folder / "test", root / "test")
    shutil.copytree(folder / "train", root / "unlabeled")
    (root / "unlabeled" / "linked.png").symlink_to(root / "test" / "cat" / "0.png")
    rows = [f"unlabeled/{name}/{number}.png,{name}" for name in ("cat", "dog") for number in range(2)]
    (root / "labels.csv").write_text("\n".join(["picture,class", *rows]))
    assert read_folder(root, 8, tmp_path / "images").notes == []
    images = open_images(tmp_path / "images")
    assert images.files["test"] == [f"test/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    assert len(images.train) == 4
    assert images.files["unlabeled"] == [f"unlabeled/{name}/{n}.png" for name in ("cat", "dog") for n in range(3)]

    read_folder(labeled(*ROWS, "a/08.png,,test"), 8, tmp_path / "images")
    assert not {"a/08.png", "a/04.png"} & set(open_images(tmp_path / "images").files["unlabeled"])


@pytest.mark.parametrize("below", ["", "unlabeled"])
def test_read_folder_without_labels_sets_images_aside(labeled, tmp_path, below):
    root = labeled().rename(tmp_path / "moved")
    (root / "labels.csv").unlink()
    if below:
        root = shutil.move(root, tmp_path / "above" / below).parent
    notes = read_folder(root, 8, tmp_path / "images", test_images=6).notes
    assert len(notes) == 1
    assert "no image has a label yet" in notes[0]
    images = open_images(tmp_path / "images")
    assert images.classes == ()
    assert [len(images.train), len(images.test), len(images.unlabeled)] == [0, 0, 34]
    aside = images.files["set_aside"]
    assert len({*aside, *images.files["unlabeled"]}) == 40

    # Once they have their labels, and others too, pretraining sees the same images.
    rows = [f"{file},{'cat' if number % 2 else 'dog'},test" for number, file in enumerate(aside[:4])]
    rows += [f"{file},,test" for file in aside[4:]]
    rows += [f"{file},{'cat' if number % 2 else 'dog'}," for number, file in enumerate(images.files["unlabeled"][:9])]
    (root / "labels.csv").write_text("\n".join(["picture,class,split", *rows]))
    assert read_folder(root, 8, tmp_path / "later").notes == []
    later = open_images(tmp_path / "later")
    assert later.checksums["unlabeled.npy"] == images.checksums["unlabeled.npy"]
    assert later.files["set_aside"] == sorted(aside[4:])
    assert [len(later.train), len(later.test)] == [9, 4]


def test_read_folder_sets_aside_at_most_a_quarter(labeled, tmp_path):
    read_folder(labeled("a/00.png,,"), 8, tmp_path / "images", test_images=60)
    assert len(open_images(tmp_path / "images").files["set_aside"]) == 10
    read_folder(labeled("a/00.png,,test", "a/02.png,,"), 8, tmp_path / "images", test_images=60)
    assert open_images(tmp_path / "images").files["set_aside"] == ["a/00.png"]


def test_read_folder_reads_class_that_has_test_images_alone(labeled, tmp_path):
    report = read_folder(labeled("a/00.png,cat,", "a/02.png,dog,test"), 8, tmp_path / "images")
    assert "class 'dog' has test images, but none to train on: the pipeline stops at `label`" in report.notes
    images = open_images(tmp_path / "images")
    with pytest.raises(UserError, match="class 'dog' has test images, but none to train on: label one"):
        draw_labeled(images.train_labels, 1.0, 0, classes=images.classes)


def test_read_folder_refuses_set_aside_images_without_any_class(labeled, tmp_path):
    root = labeled("a/00.png,cat,", "b/01.png,dog,", "a/02.png,,test")
    with pytest.raises(UserError, match=r"1 images are set aside for testing, but none has a class: label some"):
        read_folder(root, 8, tmp_path / "images")


def test_read_table_keeps_columns_and_rows(labeled):
    rows = ("'-a.png;'=cat;seen by Ann;", ".\\a\\02.png;;;", 'b/01.png;"a; b";;"first\nsecond"')
    root = labeled(*rows, header="file;class; note;extra")
    assert read_table(root) == (
        ["file", "class", "note", "extra", "split"],
        ";",
        [
            ["'-a.png", "'=cat", "seen by Ann", "", ""],
            [".\\a\\02.png", "", "", "", ""],
            ["b/01.png", "a; b", "", "first\nsecond", ""],
        ],
        [("-a.png", "=cat", ""), ("a/02.png", "", ""), ("b/01.png", "a; b", "")],
    )
    (root / "labels.csv").unlink()
    assert read_table(root) == (["picture", "class", "split"], ",", [], [])


def test_labels_table_passes_over_what_spreadsheets_leave(labeled, tmp_path):
    """Rows of separators, an index column, separators at the end of rows, and quoted cells."""
    for header, rows in (
        ("picture,class,split", (*ROWS, ",,", "", ",,")),
        (",picture,class", ("0,a/00.png,cat", "1,b/01.png,dog", "2,a/02.png,cat", "3,b/03.png,dog")),
        ("picture,class", ("a/00.png,cat,", "b/01.png,dog,,", '"a/02.png","cat"', "b/03.png,dog")),
    ):
        read_folder(labeled(*rows, header=header), 8, tmp_path / "images")
        assert open_images(tmp_path / "images").classes == ("cat", "dog")


def test_labels_table_takes_names_with_outer_spaces(labeled, tmp_path):
    root = labeled(*ROWS, " a/06.png ,dog,")
    shutil.copy(root / "a" / "08.png", root / " b.png")
    root = labeled(*ROWS, " a/06.png ,dog,", " b.png,dog,")
    read_folder(root, 8, tmp_path / "images")
    assert {" b.png", "a/06.png"} < set(open_images(tmp_path / "images").files["train"])


def test_read_folder_passes_over_links_to_themselves(folder, tmp_path):
    (folder / "unlabeled" / "loop").symlink_to(folder / "unlabeled" / "loop")
    assert any("links that lead nowhere" in note for note in read_folder(folder, 8, tmp_path / "images").notes)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (("a/00.png,cat,", "a/99.png,dog,"), r"labels\.csv, row 3: there is no unlabelled image 'a/99\.png' in"),
        ((*ROWS, "a/00.png,dog,"), "row 7: 'a/00.png' is 'dog', but row 2 says 'cat': remove one"),
        ((*ROWS, "a/00.png,cat,test"), "row 7: .* remove one"),
        ((*ROWS, "a/06.png,cat,exam"), "row 7: split is 'exam': it must be train, test or empty"),
        ((*ROWS, "a/06.png,cat,,more"), "row 7: it has more cells than there are columns"),
        (('a/00.png,"cat,', "b/01.png,dog,"), "row 3: unexpected end of data"),
        (("a/00.png,cat,", "a/02.png,cat,"), "has labels of 1 class, 'cat': at least two are needed"),
        (("a/00.png,cat,", "a/02.png,dog,"), "class 'cat' has a single labelled image, .*00.png: label another one"),
    ],
)
def test_labels_table_names_row_at_fault(labeled, tmp_path, rows, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        read_folder(labeled(*rows), 8, tmp_path / "images")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "images").exists()


def test_labels_table_names_columns_and_encoding(labeled, tmp_path):
    for header in ("image,label", "picture", ""):
        with pytest.raises(UserError, match=r"row 1: its columns are .*, but picture and class are needed"):
            read_folder(labeled(*ROWS, header=header), 8, tmp_path / "images")
    with pytest.raises(UserError, match="row 3: it is not in UTF-8"):
        read_folder(labeled("a/00.png,cat,", "b/01.png,käfer,", encoding="latin-1"), 8, tmp_path / "images")
    with pytest.raises(UserError, match="row 1: it is not in UTF-8"):
        read_folder(labeled(*ROWS, encoding="utf-16"), 8, tmp_path / "images")
