"""The command that classifies the images that it is given: `python -m stages.predict holiday/`."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluation.accuracy import METHODS
from stages.evaluation.confidence import confidence_table, describe_confidence
from stages.images.sources.listing import image_files, left_out_sentences
from stages.labeling.classification import classify_files
from stages.labeling.sorting import UNSURE, folder_names, require_empty, sort_files
from stages.models.checkpoints import load_classifier
from stages.models.device import pick_device
from stages.pipeline.errors import UserError
from stages.pipeline.files import write_csv
from stages.reporting.records import read_predictions


def run_command(description: str | None) -> None:
    """Classify the images that the command line names, and exit with code 1 on bad input."""
    arguments = parse_arguments(description)
    try:
        print(predict_files(arguments))
    except UserError as error:
        sys.exit(f"predict: {error}")
    except OSError as error:
        sys.exit(f"predict: {error.strerror or error} ({error.filename or 'while writing'})")
    except KeyboardInterrupt:
        sys.exit("predict: interrupted")


def parse_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="*", type=Path, help="folders and image files; without any, the stage is run")
    parser.add_argument(
        "--weights",
        type=Path,
        default="models/semi_supervised.safetensors",
        help="weights of a classifier, by any method (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default="predictions.csv", help="table with one row an image (default: %(default)s)"
    )
    parser.add_argument("--into", type=Path, help="new folder, to which each image is linked in a folder of its class")
    parser.add_argument("--copy", action="store_true", help="with --into: copy the images instead of linking them")
    parser.add_argument(
        "--at-least",
        type=float,
        default=0.0,
        metavar="SHARE",
        help=f"with --into: images of a lower confidence, in 0..1, go to the folder {UNSURE}",
    )
    return parser.parse_args()


def predict_files(arguments: argparse.Namespace) -> str:
    """Classify the named images, write the table, sort them if that is asked for, and return what to print."""
    classifier = load_classifier(arguments.weights)
    folders = folder_names(classifier.classes) if arguments.into else {}
    check_targets(arguments)
    left_out = defaultdict[str, list[Path]](list)
    files = [file for path in arguments.images for file in named_images(path, left_out)]
    if not files:
        raise UserError("; ".join(["there is no image to classify", *left_out_sentences(left_out, [])]))

    table, broken = classify_files(classifier, files, pick_device())
    written = [file for file in files if file not in broken]
    write_csv(table, arguments.output)
    if arguments.into:
        sure = table["confidence"] >= arguments.at_least
        names = np.where(sure, table["class"].map(folders), UNSURE)
        sort_files(written, list(names), arguments.into, copy=arguments.copy)

    where = f"{arguments.output} and {arguments.into}" if arguments.into else f"{arguments.output}"
    predictions = test_predictions(arguments.weights)
    confidence = confidence_table(table["confidence"].to_numpy(float), predictions)
    lines = [f"{len(table):,} images classified by {arguments.weights}: see {where}", describe_confidence(confidence)]
    return "\n".join(lines + [f"WARNING: {note}" for note in left_out_sentences(left_out, list(broken.values()))])


def check_targets(arguments: argparse.Namespace) -> None:
    """Refuse to replace what is not this command's own.

    Raises:
        UserError: The message names what is there already, or the option.
    """
    if not 0 <= arguments.at_least <= 1:
        raise UserError(f"--at-least is {arguments.at_least:g}: it must be in 0..1")
    if (arguments.copy or arguments.at_least) and not arguments.into:
        raise UserError("--copy and --at-least are for sorting: add --into and a new folder")
    if arguments.output.exists():
        raise UserError(f"{arguments.output} is there already: name another file by --output")
    if arguments.into:
        require_empty(arguments.into, arguments.images)


def named_images(path: Path, left_out: dict[str, list[Path]]) -> Sequence[Path]:
    """Return a file as it is, or the image files below a directory."""
    if path.is_dir():
        return image_files(path, left_out)
    if not path.is_file():
        raise UserError(f"{path} is not there: name folders and image files")
    return [path]


def test_predictions(weights: Path) -> pd.DataFrame | None:
    """Return the test predictions of a classifier, if its weights are in `models/` of this project."""
    is_here = weights.parent.resolve() == Path("models").resolve() and weights.stem in METHODS
    if not is_here or not Path(f"plots/predictions/{weights.stem}.csv").exists():
        return None
    return read_predictions(weights.stem)
