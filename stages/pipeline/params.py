"""Typed parameters: all are checked before any work, and a stage can read only what `dvc.yaml` declares for it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails

from stages.pipeline.errors import UserError
from stages.pipeline.layout import image_places


def _as_written(value: object, check: ValidatorFunctionWrapHandler) -> object:
    check(value)
    return value


def _check_probabilities(value: object) -> object:
    values = value if isinstance(value, list) and len(value) == 2 else [value]
    if all(isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 1 for number in values):
        return value
    raise ValueError(f"{value!r} is neither a probability in 0..1 nor two of them, of the first and the second view")


Probability = Annotated[float, Field(ge=0, le=1)]
Probabilities = Annotated[float | list[float], BeforeValidator(_check_probabilities)]
# A ratio stays as it is written, 1 or 1.0, since DVC names the results of the study by it.
Ratio = Annotated[float, Field(gt=0, le=1), WrapValidator(_as_written)]
BatchSize = Annotated[int, Field(ge=2)]
Pixels = Annotated[int, Field(ge=8, le=512)]
UserPath = Annotated[str, AfterValidator(os.path.expanduser)]
Leaf = bool | int | float | str | list[int] | list[float] | None


class Section(BaseModel):
    """A section of the parameters, in which a stage can read only what it declares."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    _stage: str = PrivateAttr("")
    _prefix: str = PrivateAttr("")

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            if name in type(self).model_fields:
                key = f"{self._prefix}{name}"
                raise AttributeError(
                    f"stage {self._stage} reads the parameter {key}, but dvc.yaml does not declare it there"
                )
            return super().__getattr__(name)

    def flat(self) -> dict[str, Leaf]:
        """Return all parameters that can be read here, by dotted name."""
        found: dict[str, Leaf] = {}
        for name in type(self).model_fields:
            value = self.__dict__.get(name, _UNDECLARED)
            if isinstance(value, Section):
                found |= {f"{name}.{key}": leaf for key, leaf in value.flat().items()}
            elif value is not _UNDECLARED:
                found[name] = value
        return found

    def restricted(self, stage: str, declared: list[str], prefix: str = "") -> Self:
        """Return a copy in which `stage` can read only the declared parameters.

        Args:
            stage: Name of the stage, for the message if it reads another parameter.
            declared: Dotted names of parameters and sections, relative to this section.
            prefix: Dotted name of this section, ending in a dot.

        Raises:
            UserError: There is no parameter or section of a declared name.
        """
        copy = self.model_copy()
        copy._stage, copy._prefix = stage, prefix
        names = list(type(self).model_fields)
        for key in declared:
            if key.partition(".")[0] not in names:
                raise UserError(f"dvc.yaml declares {prefix}{key} for stage {stage}, which is not a parameter")
        for name in set(names) - set(declared):
            below = [key.removeprefix(f"{name}.") for key in declared if key.startswith(f"{name}.")]
            if below:
                copy.__dict__[name] = getattr(self, name).restricted(stage, below, f"{prefix}{name}.")
            else:
                del copy.__dict__[name]
        return copy


_UNDECLARED = object()
# What the pipeline, DVC and git write besides outputs.
_NOT_FOR_IMAGES = ("data/images", ".scratch", ".dvc", ".git", ".venv")


class Dataset(Section):
    source: Literal["shapes", "stl10", "folder"]
    path: UserPath | None = None
    url: str | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    image_size: Pixels
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_images: PositiveInt = 60
    skip_broken: bool = False
    leave_out_copies: bool = True

    @model_validator(mode="after")
    def _matches_source(self) -> Self:
        if self.source == "folder" and not self.path:
            raise ValueError("path is needed with source folder: the directory that holds the images")
        if self.source != "stl10" and (self.url or self.md5):
            raise ValueError("url and md5 are for source stl10 only: set them to null")
        if self.source == "stl10" and self.image_size != 96:
            raise ValueError(f"image_size is {self.image_size}, but images of stl10 have 96 pixels: set it to 96")
        return self


class Unlabeled(Section):
    size: PositiveInt | None


IMAGENET = "imagenet"  # What `encoder.weights` may be besides a file.


class EncoderChoice(Section):
    name: Literal["narrow", "resnet18", "resnet34", "resnet50"]
    stem: Literal["conv7_pool", "conv3_pool", "conv3_stride2", "conv3"]
    weights: UserPath | None = None

    @model_validator(mode="after")
    def _has_such_weights(self) -> Self:
        if self.name == "narrow" and self.weights == IMAGENET:
            raise ValueError("there are no imagenet weights of the encoder narrow: take a resnet, or a file")
        return self


class WeakView(Section):
    crop_min: Ratio
    flip: bool


class StrongView(WeakView):
    brightness: NonNegativeFloat
    contrast: NonNegativeFloat
    saturation: NonNegativeFloat
    hue: Annotated[float, Field(ge=0, le=0.5)]
    jitter_probability: Probability
    greyscale_probability: Probability
    blur_probability: Probabilities
    solarize_probability: Probabilities


class Views(Section):
    size: Pixels
    strong: StrongView
    weak: WeakView


class Supervised(Section):
    steps: PositiveInt
    batch_size: BatchSize
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat


class Pretrain(Section):
    epochs: PositiveInt
    batch_size: BatchSize
    learning_rate: PositiveFloat
    warmup_epochs: NonNegativeInt
    weight_decay: NonNegativeFloat
    projector: Annotated[list[PositiveInt], Field(min_length=1)]
    redundancy_weight: NonNegativeFloat
    compile: bool
    checkpoints: PositiveInt

    @model_validator(mode="after")
    def _warmup_is_shorter(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}, it must be below epochs, {self.epochs}")
        return self


class Embed(Section):
    images: Annotated[int, Field(ge=10, le=20_000)]
    neighbours: PositiveInt


class Tsne(Section):
    perplexity: Annotated[float, Field(ge=1)]
    iterations: Annotated[int, Field(ge=250)]


class Probe(Section):
    views: NonNegativeInt
    C: Annotated[list[PositiveFloat], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]


class SemiSupervised(Section):
    init: Literal["pretrained", "random"]
    steps: PositiveInt
    batch_size: BatchSize
    unlabeled_batch_size: BatchSize
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    cross_entropy_weight: NonNegativeFloat
    barlow_weight: NonNegativeFloat
    consistency_weight: NonNegativeFloat
    ema_decay: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Self:
        if self.cross_entropy_weight + self.barlow_weight + self.consistency_weight == 0:
            raise ValueError("cross_entropy_weight, barlow_weight and consistency_weight are all 0: raise one of them")
        if self.init == "random" and self.cross_entropy_weight == 0:
            raise ValueError("cross_entropy_weight is 0, so with init random no term would see a label: raise it")
        return self


class Predict(Section):
    method: Literal["supervised", "probe", "fine_tune", "semi_supervised"]


class Suggest(Section):
    images: PositiveInt


class Study(Section):
    label_ratios: Annotated[list[Ratio], Field(min_length=1)]
    seeds: PositiveInt

    @model_validator(mode="after")
    def _ratios_differ(self) -> Self:
        if len(set(self.label_ratios)) < len(self.label_ratios):
            raise ValueError(f"label_ratios is {self.label_ratios}, each ratio may occur once only")
        return self


class Params(Section):
    """All of `params.yaml`."""

    seed: NonNegativeInt
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
    predict: Predict
    suggest: Suggest
    study: Study


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: The file is missing or not YAML, or a key is unknown, missing, of the wrong type or out of range.
            One line names every such key, its value and what is allowed.
    """
    content = read_yaml(path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        complaints = [_complaint(detail) for detail in error.errors(include_url=False)]
        raise UserError(f"{path}: {'; '.join(complaints)}") from error


def _complaint(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key} is not a parameter"
    if detail["type"] == "missing":
        return f"{key} is missing"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {detail['input']!r}: {message[0].lower()}{message[1:]}"


def declared_params(stage: str, path: str | Path = "params.yaml", pipeline: str | Path = "dvc.yaml") -> Params:
    """Return the checked parameters, of which `stage` can read only what `pipeline` declares for it.

    Raises:
        UserError: The parameter file is not valid (see `load_params`), the pipeline has no such stage, or the user's
            images lie where the pipeline writes.
    """
    params = load_params(path)
    _require_own_place(params.dataset, pipeline)
    _require_own_weights(params.encoder, pipeline)
    return params.restricted(stage, _declared(stage, "params", pipeline))


def declared_inputs(stage: str, pipeline: str | Path = "dvc.yaml") -> list[str]:
    """Return the paths of code and data that `pipeline` declares for `stage`.

    Raises:
        UserError: The pipeline has no such stage.
    """
    return _declared(stage, "deps", pipeline)


def _require_own_place(dataset: Dataset, pipeline: str | Path) -> None:
    """Refuse images of the user that lie in an output of the pipeline, which replaces it, or whose folder holds one."""
    if not dataset.path:
        return
    given = Path(dataset.path)
    sources = image_places(given) if dataset.source == "folder" else [given]
    for place in [*_outputs(pipeline), *_NOT_FOR_IMAGES]:
        written = Path(place).resolve()
        for source in sources:
            holds_output = dataset.source == "folder" and written.is_relative_to(source.resolve())
            if source.resolve().is_relative_to(written) or holds_output:
                raise UserError(
                    f"dataset.path is {dataset.path}, but {source} overlaps {place}, which the pipeline replaces: "
                    "move your images elsewhere; nothing has been changed"
                )


def _require_own_weights(encoder: EncoderChoice, pipeline: str | Path) -> None:
    """Refuse weights to start from that the pipeline replaces, so that it would start from its own result."""
    for place in _outputs(pipeline) if encoder.weights else []:
        if Path(encoder.weights or "").resolve().is_relative_to(Path(place).resolve()):
            raise UserError(
                f"encoder.weights is {encoder.weights}, which the pipeline replaces: copy the file elsewhere first"
            )


def _outputs(pipeline: str | Path) -> list[str]:
    """Return the paths of all outputs of a pipeline."""
    stages = read_yaml(pipeline).get("stages", {}).values()
    entries = [entry for stage in stages for kind in ("outs", "metrics") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _declared(stage: str, what: str, pipeline: str | Path) -> list[str]:
    stages = read_yaml(pipeline).get("stages", {})
    if stage not in stages:
        raise UserError(f"{pipeline} has no stage {stage}")
    return [str(entry) for entry in stages[stage].get(what, [])]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping from a YAML 1.2 file as DVC does.

    Raises:
        UserError: The file is missing, not YAML, or not a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not here: run from the top of the project") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a mapping of names to values")
    return content


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as ruamel.yaml reads it for DVC, but for dates, which stay text, and with no key twice in a mapping.

    PyYAML itself follows version 1.1, where `1e-3` and `no` are not what they are for DVC.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, f"found the key {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "").lower()
    for prefix, base in (("0b", 2), ("0o", 8), ("0x", 16)):
        if text.lstrip("+-").startswith(prefix):
            return int(text, base)
    return int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_FLOAT = (
    r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0b[01_]+|0o[0-7_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
