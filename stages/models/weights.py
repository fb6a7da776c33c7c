"""Weights that exist already, to start an encoder from: those of torchvision, of another run, or of any ResNet."""

from pathlib import Path

import torch
import torchvision
from safetensors import safe_open
from torch import Tensor, nn

from stages.pipeline.errors import UserError
from stages.pipeline.params import IMAGENET

# By which torchvision's weights expect images to be normalised.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_weights(body: nn.Module, name: str, weights: str) -> None:
    """Load weights into the body of an encoder.

    Weights of another project are those of torchvision's ResNets by their names and by the normalisation of images,
    which is folded into the first layers: convolution and running mean. At the borders of an image it differs slightly,
    since the padding is grey instead of the mean colour.

    Args:
        body: Body of an encoder; see `build_encoder`.
        name: Name of the architecture.
        weights: `imagenet`, which torchvision downloads once and verifies, or a file: a state dictionary of torchvision
            or in safetensors, or an encoder or classifier of this project.

    Raises:
        UserError: The weights cannot be read, or are those of another architecture.
    """
    state = _imagenet(name) if weights == IMAGENET else _read(Path(weights))
    is_own = any(key.startswith(("body.", "encoder.body.")) for key in state)
    if is_own:
        state = {key.partition("body.")[2]: tensor for key, tensor in state.items() if "body." in key}
    else:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}

    # Files from before PyTorch 0.4.1 lack the numbers of batches, which only a momentum of None needs.
    expected = {key: tensor for key, tensor in body.state_dict().items() if not key.endswith("num_batches_tracked")}
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    wrong = [key for key in expected if key not in state or state[key].shape != expected[key].shape]
    wrong += [key for key in state if key not in expected]
    if wrong:
        raise UserError(
            f"encoder.weights: {weights} does not fit encoder.name {name} and encoder.stem: it has "
            f"{_described(wrong[0], state)}, but {_described(wrong[0], expected)} is needed (weights for large images "
            "need the stem conv7_pool)"
        )
    body.load_state_dict(state if is_own else _for_own_views(state), strict=False)


def _described(key: str, state: dict[str, Tensor]) -> str:
    return f"{key} of shape {tuple(state[key].shape)}" if key in state else f"no {key}"


def _for_own_views(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that give for 4 v - 2 what these give for views v in 0..1, normalised by mean and deviation."""
    mean, deviation = torch.tensor(_MEAN), torch.tensor(_STD)
    kernel = state["conv1.weight"].float()
    shift = (kernel * ((0.5 - mean) / deviation)[:, None, None]).sum((1, 2, 3))
    return state | {
        "conv1.weight": kernel / (4 * deviation)[:, None, None],
        "bn1.running_mean": state["bn1.running_mean"] - shift,
    }


def _imagenet(name: str) -> dict[str, Tensor]:
    try:
        return dict(torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(check_hash=True))
    except (OSError, RuntimeError) as error:
        raise UserError(f"encoder.weights: imagenet weights cannot be downloaded ({error}): name a file") from error


def _read(path: Path) -> dict[str, Tensor]:
    """Read named tensors, and nothing that could be run."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in list(file.keys())}
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"encoder.weights: {path} is not there") from error
    except Exception as error:  # A damaged or forged file raises anything.
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"encoder.weights: {path} cannot be read as weights ({cause})") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"encoder.weights: {path} is no dictionary of tensors by their names")
    return state
