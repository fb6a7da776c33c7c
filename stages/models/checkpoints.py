"""Weights on disk: safetensors whose metadata is enough to build the model again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import PositiveInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from typing_extensions import TypedDict

from stages.models.encoders import Classifier, Encoder, build_encoder, build_projector
from stages.pipeline.errors import UserError
from stages.pipeline.files import atomic_write
from stages.pipeline.params import Pixels

Module = TypeVar("Module", bound=nn.Module)
About = TypeVar("About")


class _EncoderAbout(TypedDict):
    encoder: Literal["narrow", "resnet18", "resnet34", "resnet50"]
    stem: Literal["conv7_pool", "conv3_pool", "conv3_stride2", "conv3"]


class _ProjectorAbout(TypedDict):
    width: PositiveInt
    layers: list[PositiveInt]


class _ClassifierAbout(_EncoderAbout):
    classes: list[str]
    image_size: Pixels
    view_size: Pixels


class SavedClassifier(NamedTuple):
    """A classifier, and what is needed to use it.

    Attributes:
        model: Classifier in evaluation mode.
        classes: Names of its classes, in the order of its logits.
        image_size: Height and width in pixels of the images that its views are taken of.
        view_size: Height and width of its views in pixels.
    """

    model: Classifier
    classes: tuple[str, ...]
    image_size: int
    view_size: int


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write an encoder's weights with the arguments of `build_encoder`."""
    save_weights(encoder.state_dict(), path, {"encoder": encoder.name, "stem": encoder.stem})


def load_encoder(path: str | Path) -> Encoder:
    """Read an encoder that `save_encoder` wrote, in evaluation mode.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, _EncoderAbout)
    return _with_weights(build_encoder(about["encoder"], about["stem"]), weights, path)


def save_projector(projector: nn.Sequential, width: int, layers: Sequence[int], path: str | Path) -> None:
    """Write a projector's weights with the arguments of `build_projector`."""
    save_weights(projector.state_dict(), path, {"width": width, "layers": list(layers)})


def load_projector(path: str | Path) -> nn.Sequential:
    """Read a projector that `save_projector` wrote, in evaluation mode.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, _ProjectorAbout)
    return _with_weights(build_projector(about["width"], about["layers"]), weights, path)


def save_classifier(
    model: Classifier, classes: Sequence[str], image_size: int, view_size: int, path: str | Path
) -> None:
    """Write a classifier's weights with what is needed to use it; see `SavedClassifier`."""
    about = {
        "encoder": model.encoder.name,
        "stem": model.encoder.stem,
        "classes": list(classes),
        "image_size": image_size,
        "view_size": view_size,
    }
    save_weights(model.state_dict(), path, about)


def load_classifier(path: str | Path) -> SavedClassifier:
    """Read a classifier that `save_classifier` wrote.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, _ClassifierAbout)
    model = Classifier(build_encoder(about["encoder"], about["stem"]), len(about["classes"]))
    model = _with_weights(model, weights, path)
    return SavedClassifier(model, tuple(about["classes"]), about["image_size"], about["view_size"])


def epoch_checkpoints(directory: str | Path) -> list[tuple[int, Path]]:
    """Return (epoch, file) of every encoder that `pretrain` wrote to the directory, in the order of epochs.

    Raises:
        UserError: There is no encoder.
    """
    found = sorted((int(path.stem), path) for path in Path(directory).glob("*.safetensors") if path.stem.isdigit())
    if not found:
        raise UserError(f"{directory} holds no checkpoint: run `dvc repro pretrain` first")
    return found


def save_weights(state: Mapping[str, Tensor], path: str | Path, about: Mapping[str, object]) -> None:
    """Write named tensors atomically, with `about` as JSON in the metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(weights, metadata={"about": json.dumps(about, sort_keys=True)}))


def _load(path: str | Path, form: type[About]) -> tuple[About, dict[str, Tensor]]:
    """Read the metadata, which have the given form, and the weights."""
    try:
        with safe_open(path, framework="pt") as file:
            about = TypeAdapter(form).validate_json((file.metadata() or {}).get("about", "null"))
            weights = {name: file.get_tensor(name) for name in list(file.keys())}
            return about, weights
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` first") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read as weights ({error}): name other weights") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise UserError(f"{path} is of another kind ({where}{first['msg']}): name other weights") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error


def _with_weights(module: Module, weights: dict[str, Tensor], path: str | Path) -> Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the model that it names: delete it and run `dvc repro`") from error
    return module.eval()
