"""Parameters: what is refused, in which words, and what a stage may read."""

from dataclasses import fields
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.images.views import ViewRecipe
from stages.pipeline.errors import UserError
from stages.pipeline.params import StrongView, Views, WeakView, declared_params, load_params, read_yaml

PRESETS = sorted(Path("presets").glob("*.yaml"))


def _with(tmp_path, changes):
    content = YAML(typ="safe").load(Path("presets/shapes.yaml").read_text())
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section.setdefault(parent, {})
        if value is KeyError:
            del section[last]
        else:
            section[last] = value
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML().dump(content, file)
    return path


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(preset):
    load_params(preset)


def test_params_equal_shapes_preset():
    assert Path("presets/shapes.yaml").read_bytes() == Path("params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"pretrain.epoch": 3}, "pretrain.epoch is not a parameter"),
        ({"colour": 1}, "colour is not a parameter"),
        ({"seed": KeyError}, "seed is missing"),
        ({"seed": "zero"}, "seed is 'zero': input should be a valid integer"),
        ({"seed": -1}, "seed is -1: input should be greater than or equal to 0"),
        ({"seed": 1.5}, "seed is 1.5: "),
        ({"label_ratio": 0}, "label_ratio is 0: input should be greater than 0"),
        ({"label_ratio": 1.1}, "label_ratio is 1.1: input should be less than or equal to 1"),
        ({"label_ratio": "half"}, "label_ratio is 'half': "),
        ({"dataset.source": "mnist"}, "dataset.source is 'mnist': input should be 'shapes', 'stl10' or 'folder'"),
        ({"dataset.source": "folder"}, "path is needed with source folder"),
        ({"dataset.url": "http://x"}, "for source stl10 only"),
        ({"dataset.source": "stl10", "dataset.image_size": 64}, "image_size is 64, but images of stl10 have 96"),
        ({"pretrain.batch_size": 1}, "pretrain.batch_size is 1: input should be greater than or equal to 2"),
        ({"pretrain.warmup_epochs": 99}, "warmup_epochs is 99, it must be below epochs"),
        ({"pretrain.learning_rate": "1e-3"}, "pretrain.learning_rate is '1e-3'"),
        ({"views.strong.blur_probability": 2}, "views.strong.blur_probability: 2 is neither a probability in 0..1 nor"),
        ({"views.strong.blur_probability": [0.5]}, "views.strong.blur_probability: [0.5] is neither a probability"),
        ({"views.strong.solarize_probability": [0.5, True]}, "views.strong.solarize_probability: [0.5, True] is"),
        ({"views.strong.hue": 0.7}, "views.strong.hue is 0.7: input should be less than or equal to 0.5"),
        ({"study.label_ratios": [0.1, 0.1]}, "each ratio may occur once only"),
        ({"study.label_ratios": [0.1, 2]}, "study.label_ratios.1 is 2: "),
        ({"study.label_ratios": []}, "study.label_ratios is []: "),
        (
            {f"semi_supervised.{term}_weight": 0.0 for term in ("cross_entropy", "barlow", "consistency")},
            "cross_entropy_weight, barlow_weight and consistency_weight are all 0",
        ),
        ({"semi_supervised": None}, "semi_supervised is None: "),
    ],
)
def test_load_params_names_bad_value_and_what_is_allowed(tmp_path, changes, complaint):
    with pytest.raises(UserError) as caught:
        load_params(_with(tmp_path, changes))
    message = str(caught.value)
    assert complaint in message
    assert "\n" not in message


def test_load_params_names_all_faults_at_once(tmp_path):
    with pytest.raises(UserError, match=r"seed is -1.*colour is not a parameter"):
        load_params(_with(tmp_path, {"seed": -1, "colour": 1}))


@pytest.mark.parametrize("text", ["a: [1", "\xff\xfe", "- 1", "", "a: 1\na: 2"])
def test_load_params_refuses_malformed_file(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(UserError):
        load_params(tmp_path / "params.yaml")


def test_load_params_names_missing_file(tmp_path):
    with pytest.raises(UserError, match="run from the top of the project"):
        load_params(tmp_path / "params.yaml")


def test_load_params_reads_exponents_as_dvc(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(Path("presets/shapes.yaml").read_text().replace("learning_rate: 0.002", "learning_rate: 2e-3"))
    assert load_params(path) == load_params("presets/shapes.yaml")


def test_declared_params_show_only_what_stage_declares():
    params = declared_params("probe")
    assert params.seed == 0
    assert params.probe == load_params().probe
    with pytest.raises(AttributeError, match=r"stage probe reads the parameter pretrain, but dvc\.yaml does not"):
        _ = params.pretrain
    with pytest.raises(AttributeError, match=r"views\.strong"):
        _ = params.views.strong
    assert isinstance(params.views, Views)
    assert list(params.flat()) == [
        "seed",
        "views.size",
        "views.weak.crop_min",
        "views.weak.flip",
        "probe.views",
        "probe.C",
        "probe.folds",
    ]


def test_declared_params_hide_defaults_too(tmp_path):
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text("stages: {one: {params: [dataset.source]}}")
    params = declared_params("one", pipeline=pipeline)
    assert params.dataset.source == "shapes"
    with pytest.raises(AttributeError, match=r"dataset\.path"):
        _ = params.dataset.path
    assert load_params().dataset.path is None, "the parameters themselves have changed"


def test_view_sections_are_recipes_without_their_size():
    names = {field.name for field in fields(ViewRecipe)} - {"size"}
    assert set(StrongView.model_fields) == names
    assert set(WeakView.model_fields) < names


YAML_1_2 = """
a: 1e-3
b: no
c: 010
d: 0x10
e: .5
f: -.inf
g: 1.
h: ~
i:
j: +12
k: 12:30
l: .nan
m: 0o17
n: True
o: '1'
p: -1.5E+2
q: {x: 1, y: [1.0, 1]}
r: 0o9
s: 1e
t: &shared {u: 5_000, v: 0b11, w: -0x10, x: +0x1f}
y: {<<: *shared, u: 2}
z: [.5e3, .5e+3, 1_0.5, _1]
"""


def test_read_yaml_agrees_with_dvc(tmp_path):
    """DVC reads YAML 1.2 by ruamel.yaml."""
    (tmp_path / "a.yaml").write_text(YAML_1_2)
    assert repr(read_yaml(tmp_path / "a.yaml")) == repr(YAML(typ="safe", pure=True).load(YAML_1_2))


def test_declared_params_refuse_unknown_stage():
    with pytest.raises(UserError, match="has no stage dance"):
        declared_params("dance")
