"""Weights on disk: safetensors that carry what is needed to build the model again."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stages.files import UserError, replacing
from stages.learning.encoders import Classifier, Encoder, build_encoder, build_projector


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write an encoder's weights and what `build_encoder` made it from."""
    save_weights(encoder.state_dict(), path, {"encoder": encoder.name, "stem": encoder.stem})


def load_encoder(path: str | Path) -> Encoder:
    """Read what `save_encoder` wrote, in evaluation mode.

    Raises:
        UserError: the file is damaged or not ours.
    """
    about, weights = _load(path)
    return _filled(build_encoder(about["encoder"], about["stem"]), weights, path)


def save_projector(projector: nn.Sequential, width: int, layers: list[int], path: str | Path) -> None:
    """Write a projector's weights and what `build_projector` made it from."""
    save_weights(projector.state_dict(), path, {"width": width, "layers": layers})


def load_projector(path: str | Path) -> nn.Module:
    """Read what `save_projector` wrote.

    Raises:
        UserError: the file is damaged or not ours.
    """
    about, weights = _load(path)
    return _filled(build_projector(about["width"], about["layers"]), weights, path)


def save_classifier(model: Classifier, classes: tuple[str, ...], path: str | Path) -> None:
    """Write a classifier's weights, its encoder's name and its classes' names."""
    about = {"encoder": model.encoder.name, "stem": model.encoder.stem, "classes": list(classes)}
    save_weights(model.state_dict(), path, about)


def load_classifier(path: str | Path) -> tuple[Classifier, tuple[str, ...]]:
    """Read what `save_classifier` wrote: the model in evaluation mode, and the class names.

    Raises:
        UserError: the file is damaged or not ours.
    """
    about, weights = _load(path)
    model = Classifier(build_encoder(about["encoder"], about["stem"]), len(about["classes"]))
    return _filled(model, weights, path), tuple(about["classes"])


def epoch_checkpoints(directory: str | Path) -> list[tuple[int, Path]]:
    """(epoch, file) of every encoder in the directory that `pretrain` wrote, first to last.

    Raises:
        UserError: there is none.
    """
    found = sorted((int(path.stem), path) for path in Path(directory).glob("*.safetensors") if path.stem.isdigit())
    if not found:
        raise UserError(f"{directory} holds no checkpoint: run `dvc repro pretrain` first")
    return found


def save_weights(state: dict[str, Tensor], path: str | Path, about: dict[str, object]) -> None:
    """Write named tensors, and what they belong to as metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as aside:
        aside.write_bytes(save(weights, metadata={"about": json.dumps(about, sort_keys=True)}))


def _load(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            return about, {name: file.get_tensor(name) for name in list(file.keys())}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` first") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from error


def _filled(module: nn.Module, weights: dict[str, Tensor], path: str | Path) -> nn.Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the model that it names: delete it and run `dvc repro`") from error
    return module.eval()
