"""Weights on disk: safetensors whose metadata is enough to build the model again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stages.models.encoders import Classifier, Encoder, build_encoder, build_projector
from stages.pipeline.errors import UserError
from stages.pipeline.files import atomic_write

Module = TypeVar("Module", bound=nn.Module)


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write an encoder's weights with the arguments of `build_encoder`."""
    save_weights(encoder.state_dict(), path, {"encoder": encoder.name, "stem": encoder.stem})


def load_encoder(path: str | Path) -> Encoder:
    """Read an encoder that `save_encoder` wrote, in evaluation mode.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, "encoder", "stem")
    return _with_weights(build_encoder(about["encoder"], about["stem"]), weights, path)


def save_projector(projector: nn.Sequential, width: int, layers: Sequence[int], path: str | Path) -> None:
    """Write a projector's weights with the arguments of `build_projector`."""
    save_weights(projector.state_dict(), path, {"width": width, "layers": list(layers)})


def load_projector(path: str | Path) -> nn.Sequential:
    """Read a projector that `save_projector` wrote, in evaluation mode.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, "width", "layers")
    return _with_weights(build_projector(about["width"], about["layers"]), weights, path)


def save_classifier(model: Classifier, classes: Sequence[str], path: str | Path) -> None:
    """Write a classifier's weights with its encoder's name and the names of its classes."""
    about = {"encoder": model.encoder.name, "stem": model.encoder.stem, "classes": list(classes)}
    save_weights(model.state_dict(), path, about)


def load_classifier(path: str | Path) -> tuple[Classifier, tuple[str, ...]]:
    """Read a classifier that `save_classifier` wrote, in evaluation mode, and the names of its classes.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    about, weights = _load(path, "encoder", "stem", "classes")
    model = Classifier(build_encoder(about["encoder"], about["stem"]), len(about["classes"]))
    return _with_weights(model, weights, path), tuple(about["classes"])


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


def _load(path: str | Path, *keys: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the metadata under these keys, and the weights."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            weights = {name: file.get_tensor(name) for name in list(file.keys())}
            return {key: about[key] for key in keys}, weights
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` first") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error


def _with_weights(module: Module, weights: dict[str, Tensor], path: str | Path) -> Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the model that it names: delete it and run `dvc repro`") from error
    return module.eval()
