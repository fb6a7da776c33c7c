"""Give every unlabelled image a class and a confidence: data/predictions.csv.

With images named, classify those instead of running the stage:

    python -m stages.predict holiday/ scan.tif --output predictions.csv --into sorted/ --at-least 0.9

Images are only read. The confidence is the share that the classifier gives its class. What it is worth is measured on
the test images: how many of those with such a confidence are classified correctly.
"""

import sys

import numpy as np

from stages.evaluation.confidence import confidence_table, describe_confidence
from stages.labeling.classification import classify_images
from stages.labeling.command import run_command
from stages.models.checkpoints import load_classifier
from stages.models.device import pick_device
from stages.pipeline.errors import UserError
from stages.pipeline.files import write_csv
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.reporting.records import read_predictions


def main(params: Params) -> str:
    images, method = open_images(), params.predict.method
    classifier = load_classifier(f"models/{method}.safetensors")
    if classifier.classes != images.classes:
        raise UserError(f"models/{method}.safetensors knows other classes than data/images: run `dvc repro {method}`")

    table = classify_images(classifier, images.unlabeled, pick_device())
    if images.files:
        table.insert(0, "file", images.files["unlabeled"])
        table = table[~table["file"].isin(images.files["train"])]
    else:
        table.insert(0, "image", np.arange(len(table)))
    write_csv(table, "data/predictions.csv")
    confidence = confidence_table(table["confidence"].to_numpy(float), read_predictions(method))
    write_csv(confidence, "plots/confidence.csv")
    return f"a class for each of {len(table):,} unlabelled images\n{describe_confidence(confidence)}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_command(__doc__)
    else:
        run_stage(main, __doc__)
