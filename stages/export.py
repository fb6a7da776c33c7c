"""Write a classifier as one file that runs without this project.

    python -m stages.export                                   # classifier.onnx, for ONNX Runtime
    python -m stages.export --format torch --output mine.pt2  # for torch.export.load

It takes an upright RGB image of any size as bytes and returns the probability of each class; cropping and resizing are
inside, and the names of the classes are in the file. An ONNX model is compared with PyTorch on test images.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.labeling.portable import onnx_difference, onnx_model, torch_program
from stages.models.checkpoints import load_classifier
from stages.pipeline.errors import UserError
from stages.pipeline.files import write_bytes
from stages.pipeline.image_set import open_images
from stages.pipeline.progress import progress

COMPARED_IMAGES, TOLERANCE = 100, 1e-3
ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default="models/semi_supervised.safetensors",
        help="weights of a classifier, by any method (default: %(default)s)",
    )
    parser.add_argument("--format", choices=tuple(ENDINGS), default="onnx", help="kind of file (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="file to write (default: classifier.onnx or classifier.pt2)")
    arguments = parser.parse_args()
    try:
        print(export(arguments.weights, arguments.format, arguments.output))
    except UserError as error:
        sys.exit(f"export: {error}")
    except OSError as error:
        sys.exit(f"export: {error.strerror or error} ({error.filename or 'while writing'})")


def export(weights: Path, kind: str, output: Path | None) -> str:
    """Write the file, which must not be there yet, and return what to print."""
    output = output or Path("classifier").with_suffix(ENDINGS[kind])
    if output.exists():
        raise UserError(f"{output} is there already: name another file by --output")
    classifier = load_classifier(weights)
    content = torch_program(classifier) if kind == "torch" else onnx_model(classifier)
    line = f"{output}: {len(classifier.classes)} classes, {len(content) / 2**20:.1f} MiB"
    if kind == "onnx" and Path("data/images").is_dir():
        difference = onnx_difference(classifier, content, samples())
        if difference > TOLERANCE:
            raise UserError(f"the ONNX model differs from PyTorch by up to {difference:.1e}, so it was not written")
        line += f"; probabilities differ from PyTorch's by at most {difference:.1e}"
    write_bytes(output, content)
    return line


def samples() -> Iterator[NDArray[np.uint8]]:
    """Yield test images, resized to various sizes and shapes."""
    test = open_images().test
    for number in progress(range(min(COMPARED_IMAGES, len(test))), title="compare", unit="img"):
        image = Image.fromarray(test[number])
        width, height = int(image.width * (0.5 + number % 3)), image.height * (1 + number % 2)
        yield np.array(image.resize((width, height)))


if __name__ == "__main__":
    main()
