"""The page to label on in a real browser, and an evening with a folder of images that have no labels."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.browser import needs_browser, open_page
from helpers.workspace import new_clone, stages_run, tiny_params
from PIL import Image

from stages.images.sources.labels import new_table, read_table
from stages.reporting.label_page import Picture, label_page

HOSTILE = '<img src=x onerror=alert(1)>, "=1;2"'
EMPTY = new_table()


def _picture(name, split="train"):
    return Picture(name, split, np.full((8, 8, 3), 120, np.uint8), stands_for=7 if split == "train" else 0)


@pytest.fixture
def opened(tmp_path):
    """A function that makes the page and opens it; what goes wrong on it fails the test."""

    def make(pictures, table=EMPTY, classes=(), folder=Path()):
        path = tmp_path / "label.html"
        path.write_text(label_page(pictures, classes, table, folder), encoding="utf-8")
        return open_page(path)

    return make


def _saved(page, target):
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "labels.csv"
    shutil.copy(download.value.path(), target)
    with target.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _add_class(page, name):
    page.keyboard.press("Enter")
    page.keyboard.type(name)
    page.keyboard.press("Enter")


def _labeled(page, split="train"):
    return page.inner_text(f"#progress-{split}").partition(": ")[2]


@pytest.mark.slow
@needs_browser
def test_label_page_labels_by_keys_and_keeps_them_between_visits(opened, tmp_path):
    pictures = [_picture("a.png"), _picture("=b.png"), _picture("c, d.png"), _picture("e.png", "test")]
    with opened(pictures) as (page, wrong):
        assert page.is_disabled("#save")
        assert "stands for 7 images" in page.inner_text("#what")
        _add_class(page, "heron")
        _add_class(page, HOSTILE)
        page.keyboard.press("Space")
        page.keyboard.press("Backspace")
        page.keyboard.press("1")
        assert _labeled(page) == "3 of 3 labelled"
        page.reload()
        assert _labeled(page) == "3 of 3 labelled"
        assert "1 of 1" in page.inner_text("#what")
        assert "No test image has a label yet." in page.inner_text("#hints")
        page.keyboard.press("2")
        assert "“heron” has no test image" in page.inner_text("#hints")
        assert "has a single image to train on" in page.inner_text("#hints")
        rows = _saved(page, tmp_path / "labels.csv")
        assert rows[0] == ["picture", "class", "split"]
        assert sorted(rows[1:]) == [
            ["'=b.png", HOSTILE, "train"],
            ["a.png", "heron", "train"],
            ["c, d.png", "heron", "train"],
            ["e.png", HOSTILE, "test"],
        ]
        page.click("#forget")
        page.click("#forget")
        assert _labeled(page) == "0 of 3 labelled"
        assert wrong == []


@pytest.mark.slow
@needs_browser
def test_label_page_changes_rows_of_table_and_keeps_the_rest(opened, tmp_path):
    rows = ("x.png;seen; by Ann;'=owl;", "t.png;ask Ann;;test", "./b.png;;;", "'-s.png;dark;'=owl;")
    rows = [row if row.count(";") == 3 else row.replace("seen; by Ann", '"seen; by Ann"') for row in rows]
    (tmp_path / "labels.csv").write_text("\n".join(["file;note;class;split", *rows]) + "\n")
    pictures = [_picture("a.png"), _picture("b.png"), _picture("t.png", "test"), _picture("u.png", "test")]
    with opened(pictures, read_table(tmp_path), ["=owl"]) as (page, wrong):
        assert page.locator("#classes .name").all_inner_texts() == ["=owl"]
        page.keyboard.press("Space")
        page.keyboard.press("1")
        page.keyboard.press("1")
        assert _labeled(page) == "1 of 2 labelled, 1 skipped"
        _saved(page, tmp_path / "labels.csv")
        assert (tmp_path / "labels.csv").read_text() == (
            "file;note;class;split\n"
            'x.png;"seen; by Ann";\'=owl;\n'
            "t.png;ask Ann;'=owl;test\n"
            "./b.png;;'=owl;train\n"
            "'-s.png;dark;'=owl;\n"
            "u.png;;;test\n"
        )
        assert wrong == []


@pytest.mark.slow
@needs_browser
def test_label_page_keeps_key_of_each_class(opened):
    with opened([_picture(f"{number}.png") for number in range(9)]) as (page, _):
        for name in ("heron", "swan", "duck"):
            _add_class(page, name)
        page.locator("#strip-train button").nth(1).click()
        page.keyboard.press("3")
        page.keyboard.press("2")
        assert page.locator("#strip-train .label").all_inner_texts()[:4] == ["heron", "duck", "duck", "swan"]
        page.reload()
        assert page.locator("#classes .name").all_inner_texts() == ["heron", "swan", "duck"]


@pytest.mark.slow
@needs_browser
def test_label_page_takes_one_label_a_press_and_none_after_the_last_image(opened):
    with opened([_picture(f"{number}.png") for number in range(4)], classes=("cat", "dog")) as (page, _):
        page.keyboard.down("1")
        page.keyboard.down("1")
        page.keyboard.down("1")
        page.keyboard.up("1")
        assert _labeled(page) == "1 of 4 labelled"
        page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: '&', code: 'Digit1', bubbles: true}))")
        assert _labeled(page) == "2 of 4 labelled"
        for key in ("1", "1", "2", "2"):
            page.keyboard.press(key)
        assert page.locator("#strip-train .label").all_inner_texts() == ["cat"] * 4
        assert "All images are done" in page.inner_text("#what")


@pytest.mark.slow
@needs_browser
def test_label_page_takes_clicks_and_goes_back(opened):
    with opened([_picture("a.png"), _picture("b.png"), _picture("c.png", "test")], classes=("cat", "dog")) as (page, _):
        page.locator("#classes button").nth(1).click()
        page.locator("#strip-train button").first.click()
        assert page.inner_text("#file") == "a.png"
        assert page.locator("#classes button").nth(1).get_attribute("aria-pressed") == "true"
        page.keyboard.press("1")
        assert page.locator("#strip-train .label").all_inner_texts() == ["cat", ""]
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#file") == "c.png"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(
    ("pictures", "folder", "notice"),
    [
        ([], Path(), "to label here"),
        ([], Path("absent"), "was not there when this page was made"),
        ([_picture("image 3")], None, "for a look alone"),
    ],
)
def test_label_page_says_what_it_cannot_do(opened, pictures, folder, notice):
    with opened(pictures, folder=folder) as (page, wrong):
        assert notice in page.inner_text(".warning")
        assert page.is_disabled("#save")
        assert wrong == []


KINDS = ("heron", "swan")


def _draw_photos(root, count):
    """Images of two kinds of stripes at any depth; the name of an image tells its kind to the test alone."""
    rng = np.random.default_rng(0)
    for number in range(count):
        stripes = (np.arange(24) // 3 % 2)[:, None, None] * np.ones((24, 24, 3)) * 200
        image = (stripes if number % 2 else stripes.transpose(1, 0, 2)) + rng.random((24, 24, 3)) * 50
        path = root / str(number % 3) / f"{KINDS[number % 2]}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(path)


@pytest.mark.slow
@needs_browser
def test_evening_from_folder_without_labels_to_sorted_folders(tmp_path):
    """Everything that docs/labels.md shows: run, label 40 images and 60 for testing by keys, run again, predict."""
    photos = tmp_path / "photos"
    (tmp_path / "clone").mkdir()
    _draw_photos(photos, 300)
    clone = new_clone(tmp_path / "clone")
    (clone.path / "dvc.lock").unlink()
    params = tiny_params(photos)
    params |= {"label_ratio": 1.0, "suggest": {"images": 40}, "study": {"label_ratios": [0.5], "seeds": 1}}
    params["tsne"]["perplexity"] = 30.0
    clone.write_params(params)
    clone.commit("begin")

    stopped = clone("dvc", "repro", fails=True)
    assert stages_run(stopped) == {"download", "sample", "pretrain", "suggest", "label"}
    assert "label: no image has a label yet: open plots/label.html in a browser" in stopped

    with open_page(clone.path / "plots/label.html") as (page, wrong):
        for _ in range(100):
            kind = page.inner_text("#file").split("/")[1].partition("-")[0]
            known = page.locator("#classes .name").all_inner_texts()
            page.keyboard.press(str(known.index(kind) + 1)) if kind in known else _add_class(page, kind)
        assert page.inner_text("#progress-test") == "Test: 60 of 60 labelled"
        assert len(_saved(page, photos / "labels.csv")) == 101
        assert wrong == []

    ran = clone.repro()
    assert "pretrain" not in ran
    assert {"label", "suggest", "supervised", "semi_supervised", "compare", "predict"} <= ran
    predictions = pd.read_csv(clone.path / "data/predictions.csv")
    assert len(predictions) == 200
    assert not predictions["file"].isin(pd.read_csv(photos / "labels.csv")["picture"]).any()

    said = clone("python", "-m", "stages.predict", str(photos), "--into", str(tmp_path / "sorted"))
    found = [(path.parent.name, path.name.partition("-")[0]) for path in (tmp_path / "sorted").rglob("*.png")]
    assert len(found) == 300
    table = pd.read_csv(clone.path / "predictions.csv")
    unseen = table[[name.removeprefix(f"{photos}/") in set(predictions["file"]) for name in table["file"]]]
    accuracy = np.mean([name in file for file, name in zip(unseen["file"], unseen["class"], strict=True)])
    low, high = pd.read_csv(clone.path / "plots/confidence.csv").iloc[0][["low", "high"]]
    assert low <= accuracy <= high, said
