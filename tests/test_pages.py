"""The evolution page in a real browser: it opens from disk without an error or a request, and does what it says."""

import numpy as np
import pandas as pd
import pytest
from helpers.browser import needs_browser, open_page

from stages.reporting.evolution import Evolution, evolution_page, nearest

HOSTILE = '<img src=x onerror=alert(1)></script><script>alert("2")</script>'
METRICS = ("knn_accuracy", "linear_accuracy", "effective_rank", "centered_rank")
METRICS += ("alignment", "uniformity", "invariance", "redundancy")


def _page(images=300, checkpoints=4, classes=10):
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    epochs = [0, 1, *range(5, 5 * (checkpoints - 1), 5)][:checkpoints]
    centres = rng.normal(size=(classes, 2))
    layouts = {
        epoch: (step * centres[labels] + rng.normal(size=(images, 2))).astype(np.float32)
        for step, epoch in enumerate(epochs)
    }
    features = {
        epoch: np.hstack([layout, np.ones((images, 1))]).astype(np.float32) for epoch, layout in layouts.items()
    }
    metrics = pd.DataFrame({"epoch": epochs} | {name: np.linspace(0.1, 0.9, len(epochs)) for name in METRICS})
    metrics.loc[0, ["invariance", "redundancy"]] = np.nan
    pixels = rng.integers(0, 256, (images, 48, 48, 3), dtype=np.uint8)
    correlations = rng.uniform(-1, 1, (len(epochs), 64, 64)).astype(np.float32)
    names = (HOSTILE, *(f"class {number}" for number in range(1, classes)))
    return evolution_page(Evolution(layouts, features, metrics, correlations), pixels, labels, names)


def _write(path, **shape):
    path.write_text(_page(**shape), encoding="utf-8")
    return path


def _position(page, image):
    """Return where an image is on the screen."""
    return page.evaluate(
        """(image) => {
        const box = canvas.getBoundingClientRect();
        return [box.left + across[image], box.top + down[image]]; }""",
        image,
    )


def _drawn(page, colour):
    """Return how many pixels of the map have that colour, laid over white."""
    return page.evaluate(
        """(colour) => {
        const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
        const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
        let found = 0;
        for (let at = 0; at < data.length; at += 4)
          found += data[at + 3] > 200 && wanted.every((value, channel) => Math.abs(data[at + channel] - value) < 3);
        return found; }""",
        colour,
    )


@pytest.mark.slow
@needs_browser
def test_evolution_page_moves_shows_and_filters(tmp_path):
    with open_page(_write(tmp_path / "evolution.html")) as (page, wrong):
        page.wait_for_selector("body[data-ready=yes]")
        first, before = _position(page, 1), page.locator("#map").screenshot()
        assert page.inner_text("#moment") == "before pretraining"
        page.locator("#time").fill("2")
        assert page.inner_text("#moment") == "epoch 5"
        assert _position(page, 1) != first
        assert page.locator("#map").screenshot() != before

        page.mouse.move(*_position(page, 1))
        page.wait_for_selector("#hover", state="visible")
        assert "class 1 (image 1)" in page.inner_text("#hover")
        assert page.locator("#hover .tile").bounding_box()["width"] == 96
        page.mouse.click(*_position(page, 1))
        assert page.locator("#chosen figure").count() == 9
        assert "neighbours of image 1 (class 1), epoch 5" in page.inner_text("#chosen-title")

        colour = page.evaluate("content.classes[2].colour")
        assert _drawn(page, colour) > 100
        hidden = page.locator("#legend button").nth(2)
        hidden.click()
        assert hidden.get_attribute("aria-pressed") == "false"
        assert _drawn(page, colour) == 0
        assert HOSTILE in page.inner_text("#legend")

        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("moment.textContent === 'epoch 1'")
        page.keyboard.press(" ")
        page.wait_for_function("moment.textContent === 'epoch 10'")
        assert wrong == []


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(
    "shape",
    [{"checkpoints": 1}, {"classes": 2}, {"classes": 200, "images": 600}, {"images": 10, "classes": 5}],
    ids=["one checkpoint", "two classes", "200 classes", "ten images"],
)
def test_evolution_page_fits_narrow_screen(tmp_path, shape):
    with open_page(_write(tmp_path / "evolution.html", **shape), width=380, height=800) as (page, wrong):
        page.wait_for_selector("body[data-ready=yes]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        page.keyboard.press("n")
        assert page.locator("#chosen figure").count() == min(8, shape.get("images", 300) - 1) + 1
        assert wrong == []


@pytest.mark.slow
@needs_browser
def test_evolution_page_with_2000_images_is_small_and_interactive(tmp_path):
    path = _write(tmp_path / "evolution.html", images=2000, checkpoints=12)
    assert path.stat().st_size < 15e6
    with open_page(path) as (page, wrong):
        page.wait_for_selector("body[data-ready=yes]")
        first = _position(page, 1)
        page.evaluate("() => new Promise((done) => glide(11, 1, done))")
        assert page.inner_text("#moment") == "epoch 50"
        assert _position(page, 1) != first
        assert wrong == []


def test_evolution_page_is_deterministic():
    assert _page() == _page()


def test_nearest_equals_cosine_neighbours():
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    np.testing.assert_array_equal(nearest(features), np.argsort(-similarity, axis=1)[:, :8])
