"""Typed parameters: all of `params.yaml` is checked before any work, and a stage sees only what `dvc.yaml` declares for it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.files import UserError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# A ratio stays as it is written, 1 or 1.0, since DVC names the results of the study by it.
Ratio = Annotated[float, Field(gt=0, le=1), WrapValidator(lambda value, check: check(value) and value)]
Strength = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Dataset(Section):
    source: Literal["shapes", "stl10", "folder"]
    path: str | None = None
    url: str | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    image_size: Annotated[int, Field(ge=8, le=512)]

    @model_validator(mode="after")
    def _sources_fit(self) -> "Dataset":
        if self.source == "folder" and not self.path:
            raise ValueError("path is needed with source folder: the directory that holds train/, test/ and unlabeled/")
        if self.source != "stl10" and (self.url or self.md5):
            raise ValueError("url and md5 are for source stl10 only: set them to null")
        if self.source == "stl10" and self.image_size != 96:
            raise ValueError(f"image_size is {self.image_size}, but images of stl10 have 96 pixels: set it to 96")
        return self


class Unlabeled(Section):
    size: Positive | None


class EncoderChoice(Section):
    name: Literal["narrow", "resnet18", "resnet34", "resnet50"]
    stem: Literal["conv7_pool", "conv3_pool", "conv3_stride2", "conv3"]


class WeakView(Section):
    crop_min: Ratio
    flip: bool


class StrongView(WeakView):
    brightness: Strength
    contrast: Strength
    saturation: Strength
    hue: Annotated[float, Field(ge=0, le=0.5)]
    jitter_probability: Share
    greyscale_probability: Share
    blur_probability: Share
    solarize_probability: Share


class Views(Section):
    size: Annotated[int, Field(ge=8, le=512)]
    strong: StrongView
    weak: WeakView


class Supervised(Section):
    steps: Positive
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Strength


class Pretrain(Section):
    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    warmup_epochs: Annotated[int, Field(ge=0)]
    weight_decay: Strength
    projector: Annotated[list[Positive], Field(min_length=1)]
    redundancy_weight: Strength
    compile: bool
    checkpoints: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _warmup_fits(self) -> "Pretrain":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}, it must be below epochs, {self.epochs}")
        return self


class Embed(Section):
    images: Annotated[int, Field(ge=10, le=20_000)]
    neighbours: Positive


class Tsne(Section):
    perplexity: Annotated[float, Field(ge=1)]
    iterations: Annotated[int, Field(ge=250)]


class Probe(Section):
    views: Annotated[int, Field(ge=0)]
    strengths: Annotated[list[Rate], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]


class SemiSupervised(Section):
    init: Literal["pretrained", "random"]
    steps: Positive
    batch_size: Annotated[int, Field(ge=2)]
    unlabeled_batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Strength
    cross_entropy_weight: Strength
    barlow_weight: Strength
    consistency_weight: Strength
    average_decay: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "SemiSupervised":
        if self.cross_entropy_weight + self.barlow_weight + self.consistency_weight == 0:
            raise ValueError("cross_entropy_weight, barlow_weight and consistency_weight are all 0: raise one of them")
        if self.init == "random" and self.cross_entropy_weight == 0:
            raise ValueError("cross_entropy_weight is 0, so with init random nothing would tell the classes: raise it")
        return self


class Study(Section):
    label_ratios: Annotated[list[Ratio], Field(min_length=1)]
    seeds: Positive

    @model_validator(mode="after")
    def _ratios_differ(self) -> "Study":
        if len(set(self.label_ratios)) < len(self.label_ratios):
            raise ValueError(f"label_ratios is {self.label_ratios}, each ratio may occur once only")
        return self


class Params(Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0)]
    label_ratio: Ratio
    dataset: Dataset
    unlabeled: Unlabeled
    encoder: EncoderChoice
    views: Views
    supervised: Supervised
    pretrain: Pretrain
    embed: Embed
    tsne: Tsne
    probe: Probe
    fine_tune: Supervised
    semi_supervised: SemiSupervised
    study: Study


class Declared:
    """A part of the parameters: what a stage declares can be read as an attribute, what it does not cannot."""

    def __init__(self, stage: str, values: dict[str, object], prefix: str = "") -> None:
        self._stage, self._values, self._prefix = stage, values, prefix

    def __getattr__(self, name: str) -> object:
        key = self._prefix + name
        if key in self._values:
            return self._values[key]
        if any(declared.startswith(f"{key}.") for declared in self._values):
            return Declared(self._stage, self._values, f"{key}.")
        raise AttributeError(f"stage {self._stage} reads the parameter {key}, but dvc.yaml does not declare it there")

    def keys(self) -> list[str]:
        """Names of what is declared here, so that a section can be passed on as `**params.section`."""
        return [key.removeprefix(self._prefix) for key in self._values if key.startswith(self._prefix)]

    def everything(self) -> dict[str, object]:
        """All that is declared, by dotted name."""
        return dict(self._values)

    def __getitem__(self, name: str) -> object:
        return getattr(self, name)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: it is missing or not YAML, or a key is unknown, missing, of the wrong type or out of range; one line
            names every such key, its value and what is allowed.
    """
    content = read_yaml(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        complaints = [_complaint(detail) for detail in error.errors(include_url=False)]
        raise UserError(f"{path}: {'; '.join(complaints)}") from error


def _complaint(detail: dict) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a parameter"
    if detail["type"] == "missing":
        return f"{key} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {detail['input']!r}: {message[0].lower()}{message[1:]}"


def declared_params(stage: str, path: str | Path = "params.yaml", pipeline: str | Path = "dvc.yaml") -> Declared:
    """The checked parameters that `pipeline` declares for `stage`, and no others.

    Raises:
        UserError: see `load_params`; or the pipeline file is damaged.
    """
    params = load_params(path)
    stages = (read_yaml(pipeline) or {}).get("stages", {})
    if stage not in stages:
        raise UserError(f"{pipeline} has no stage {stage}")
    values = {}
    for key in stages[stage].get("params", []):
        value: object = params
        for part in key.split("."):
            value = getattr(value, part)
        values[key] = value
    return Declared(stage, values)


def declared_inputs(stage: str, pipeline: str | Path = "dvc.yaml") -> list[str]:
    """Paths of code and data that `pipeline` declares for `stage`."""
    return read_yaml(pipeline)["stages"][stage].get("deps", [])


def read_yaml(path: str | Path) -> dict:
    """A YAML 1.2 file, as DVC reads it.

    Raises:
        UserError: it is missing, or not YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not here: run from the top of the project") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
