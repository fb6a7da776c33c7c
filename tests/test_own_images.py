"""Nothing that a person owns is written to or deleted, wherever it lies."""

import re
import shutil
import sys

import pathspec
import pytest
from helpers.structure import ROOT
from helpers.workspace import draw_image_folder

from stages import embed, pretrain, tsne
from stages.pipeline.errors import UserError
from stages.pipeline.params import Dataset, _require_own_place

pytestmark = pytest.mark.slow

INSIDE_OUTPUTS = ("data/images", "data/images/mine", "models/pretrain", "plots/tsne/a")


def _content(place):
    return {path.relative_to(place): path.read_bytes() for path in sorted(place.rglob("*.png"))}


@pytest.fixture
def own(clone, tmp_path):
    """A function that puts images somewhere in the clone and names them in params.yaml; they are taken away again."""
    draw_image_folder(tmp_path / "images")
    places = []

    def put(place, named=None):
        target = clone.path / place
        if not target.exists():
            places.append(target)
        for split in ("train", "test", "unlabeled"):
            shutil.copytree(tmp_path / "images" / split, target / split)
            places.append(target / split)
        clone.set_parameter("dataset.path", named or place)
        return target

    yield put
    for split in places:
        shutil.rmtree(split, ignore_errors=True)


@pytest.mark.parametrize("place", INSIDE_OUTPUTS)
def test_images_inside_outputs_are_refused_and_kept(clone, own, place):
    target = own(place)
    before = _content(target)
    for command in (("./stage", "download"), ("dvc", "repro", "tsne")):
        output = clone(*command, fails=True)
        assert f"dataset.path is {place}, but {place}/train overlaps" in output
        assert "nothing has been changed" in output
        assert _content(target) == before


def test_images_inside_outputs_are_kept_by_experiments_and_collection(clone, own):
    """`dvc exp run` restores the directories among the outputs before it runs any stage, which could refuse."""
    targets = [own(place) for place in INSIDE_OUTPUTS]
    loose = [clone.path / place / "1.png" for place in ("models/pretrain", "data/embeddings", "plots/tsne")]
    for path in loose:
        path.write_bytes(b"mine")
    before = [_content(target) for target in targets]
    clone("dvc", "exp", "run", "-S", "tsne.perplexity=4.0", fails=True)
    assert [_content(target) for target in targets] == before
    clone("dvc", "checkout", "--force")
    clone("dvc", "gc", "-w", "-f")
    clone(sys.executable, "-m", "stages.clean_scratch")
    assert [_content(target) for target in targets] == before
    assert all(path.read_bytes() == b"mine" for path in loose)
    for path in loose:
        path.unlink()


@pytest.mark.parametrize(
    ("stage", "place"), [("pretrain", "models/pretrain"), ("embed", "data/embeddings"), ("tsne", "plots/tsne")]
)
def test_files_beside_results_are_kept(clone, stage, place):
    notes = clone.path / place / "notes.txt"
    notes.write_text("mine")
    clone.set_parameter("seed", 5)
    output = clone("./stage", stage, fails=True)
    assert f"{place}/notes.txt is none of the pipeline's files and would be lost" in output
    assert notes.read_text() == "mine"
    notes.unlink()


def test_dvc_ignores_what_stages_refuse():
    """The names of the files of each directory stand in its stage, for the stage, and in .dvcignore, for DVC."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".dvcignore").read_text().splitlines())
    stems = ("0", "30", "1000", "10-best", "1a", "a1", "epoch-", "epoch-0", "epoch-30", "epoch-3-old", "3/0")
    stems += ("images", "labels", "projector", "cross_correlation", "mine")
    tried = set()
    for directory, names in (
        ("models/pretrain", pretrain._FILES),
        ("data/embeddings", embed._FILES),
        ("plots/tsne", tsne._FILES),
    ):
        for ending in ("npy", "png", "safetensors", "txt"):
            for stem in stems:
                name = f"{stem}.{ending}"
                own = re.fullmatch(names, name) is not None
                assert ignored.match_file(f"{directory}/{name}") is not own, f"{directory}/{name}"
                tried.add((directory, own))
    assert len(tried) == 6


def test_images_beside_image_set_are_kept_whatever_the_source(clone, own):
    target = own("data/images")
    before = _content(target)
    clone.set_parameter("dataset", {"source": "shapes", "image_size": 16})
    for command in (("./stage", "download"), ("dvc", "repro", "download")):
        assert "data/images/test is none of the pipeline's files and would be lost" in clone(*command, fails=True)
        assert _content(target) == before


def test_images_behind_link_to_output_are_refused(clone, own, tmp_path):
    (tmp_path / "link").symlink_to(clone.path / "data" / "images")
    target = own("data/images", named=str(tmp_path / "link"))
    before = _content(target)
    assert "overlaps data/images" in clone("./stage", "download", fails=True)
    assert _content(target) == before


def test_images_in_top_directory_are_read_and_kept(clone, own):
    target = own(".")
    before = {path: content for path, content in _content(target).items() if path.parts[0] in ("train", "unlabeled")}
    assert clone.repro("download") == {"download"}
    after = _content(target)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("place", [".scratch", ".dvc/cache", ".git", "data/images/../images", "~/x", "data", "."])
def test_require_own_place_compares_resolved_paths(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "data" / "images"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {download: {outs: [data/images: {persist: true}]}}")
    dataset = Dataset(source="folder", path=place, image_size=32)
    with pytest.raises(UserError, match="move your images elsewhere"):
        _require_own_place(dataset, "dvc.yaml")
    (tmp_path / "data" / "train").mkdir(parents=True)
    _require_own_place(Dataset(source="folder", path="data", image_size=32), "dvc.yaml")
    _require_own_place(Dataset(source="stl10", path=".", image_size=96), "dvc.yaml")
    _require_own_place(Dataset(source="shapes", image_size=32), "dvc.yaml")
