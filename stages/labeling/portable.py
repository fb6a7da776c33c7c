"""A classifier that takes an image as it is, so that nothing of this project is needed to run it."""

import io
import json
import warnings
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.nn.functional import interpolate

from stages.models.checkpoints import SavedClassifier
from stages.pipeline.errors import UserError

_INSTALL = "install what ONNX needs by `pip install onnx onnxruntime onnxscript`"
_LANCZOS_LOBES = 3
_MOST_PIXELS, _EXAMPLE_SHAPE = 16384, (120, 97, 3)


class PhotoClassifier(nn.Module):
    """Classifies one upright image of any size.

    The image is cropped and resized as it is when it is read from a file, then classified as a test image is.

    Args:
        classifier: The classifier, with the sizes of its images and views.
    """

    def __init__(self, classifier: SavedClassifier) -> None:
        super().__init__()
        self.model = classifier.model.eval()
        self.image_size, self.view_size = classifier.image_size, classifier.view_size

    def forward(self, image: Tensor) -> Tensor:
        """Return the softmax probability of each class.

        Args:
            image: (H, W, 3) RGB bytes.

        Returns:
            (C,) float32 probabilities.
        """
        small = resize_central_square(image, self.image_size)
        margin = self.image_size // 16
        center = small[margin : self.image_size - margin, margin : self.image_size - margin].permute(2, 0, 1)[None]
        # As in `center_crop_views`, in operations that other runtimes have.
        view = interpolate(center / 255, (self.view_size, self.view_size), mode="bilinear", antialias=True)
        logits: Tensor = self.model(view)
        return logits.softmax(1)[0]


def resize_central_square(image: Tensor, size: int) -> Tensor:
    """Crop an image to its central square and resize it by a Lanczos filter.

    The result is that of Pillow's `ImageOps.fit` with `Resampling.LANCZOS`, before that is rounded.

    Args:
        image: (H, W, 3) bytes.
        size: Height and width of the result in pixels.

    Returns:
        (size, size, 3) float32 levels in 0..255.
    """
    height, width, _ = image.shape
    side = torch.sym_min(height, width)  # An int, or a symbol for one while the module is traced.
    rows, columns = _lanczos_weights(height, side, size), _lanczos_weights(width, side, size)
    narrow = torch.einsum("hwc,sw->hsc", image.float(), columns).clamp(0, 255)
    return torch.einsum("hsc,rh->rsc", narrow, rows).clamp(0, 255)


def _lanczos_weights(length: int, side: int | torch.SymInt, size: int) -> Tensor:
    """Return the (size, length) weights that make `size` pixels of the central `side` pixels of a line."""
    scale = torch.scalar_tensor(side) / size
    centers = torch.scalar_tensor(length - side) / 2 + (torch.arange(size) + 0.5) * scale
    distances = (torch.arange(length) + 0.5 - centers[:, None]) / scale.clamp(min=1)
    weights = distances.sinc() * (distances / _LANCZOS_LOBES).sinc() * (distances.abs() < _LANCZOS_LOBES)
    return weights / weights.sum(1, keepdim=True)


def export_program(classifier: SavedClassifier) -> ExportedProgram:
    """Trace a classifier for images of any size up to 16,384 pixels."""
    sides = {0: Dim("height", min=2, max=_MOST_PIXELS), 1: Dim("width", min=2, max=_MOST_PIXELS)}
    example = torch.zeros(_EXAMPLE_SHAPE, dtype=torch.uint8)
    with torch.no_grad():
        return export(PhotoClassifier(classifier).eval(), (example,), dynamic_shapes={"image": sides})


def torch_program(classifier: SavedClassifier) -> bytes:
    """Return a file that `torch.export.load` reads, with the names of the classes as `classes.json` in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")  # Views of one storage, which are saved as they are.
        extra = {"classes.json": json.dumps(classifier.classes, ensure_ascii=False)}
        torch.export.save(export_program(classifier), file, extra_files=extra)
    return file.getvalue()


def onnx_model(classifier: SavedClassifier) -> bytes:
    """Return an ONNX model with input `image`, output `probabilities`, and the names of the classes in its metadata.

    Raises:
        UserError: A package that this needs is not installed.
    """
    try:
        program = torch.onnx.export(
            export_program(classifier),
            input_names=["image"],
            output_names=["probabilities"],
            dynamo=True,
            verbose=False,
        )
    except ImportError as error:
        raise UserError(f"{error}: {_INSTALL}") from error
    assert program is not None, "it is None without dynamo alone"
    program.model.metadata_props["classes"] = json.dumps(classifier.classes, ensure_ascii=False)
    content: bytes = program.model_proto.SerializeToString()
    return content


def onnx_difference(classifier: SavedClassifier, model: bytes, images: Iterable[NDArray[np.uint8]]) -> float:
    """Return the largest difference of a probability between ONNX Runtime and PyTorch.

    Args:
        classifier: The classifier.
        model: The ONNX model that was made of it.
        images: Images, each (H, W, 3) bytes.

    Raises:
        UserError: ONNX Runtime is not installed.
    """
    try:
        from onnxruntime import InferenceSession
    except ImportError as error:
        raise UserError(f"{error}: {_INSTALL}") from error

    session, module = InferenceSession(model, providers=["CPUExecutionProvider"]), PhotoClassifier(classifier).eval()
    differences = [0.0]
    for image in images:
        with torch.no_grad():
            expected = module(torch.from_numpy(image)).numpy()
        (found,) = session.run(None, {"image": image})
        differences.append(float(np.abs(found - expected).max()))
    return max(differences)
