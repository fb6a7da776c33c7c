"""What methods without pretraining reach in the seconds that pretraining and semi-supervised training take together.

python -m benchmarks.equal_time shapes

Supervised training gets as many steps as fit in these seconds, and so does semi-supervised training from random weights
without Barlow Twins, at the seconds a step that the last `dvc repro` took. Labels, images, costs and the accuracy to
compare with are those of that run, which has to be of this machine and with as many threads; params.yaml has to be the
preset. Results go to benchmarks/results/equal-time-<preset>.json, one row at a time, so that an interrupted run goes
on; an edit of the code does not repeat them.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from typing_extensions import TypedDict

from benchmarks.plateau import RESULTS, SCRATCH, preset_params, train
from stages.evaluation.accuracy import correct
from stages.evaluation.predictions import predict
from stages.models.device import device_name, machine_fingerprint, pick_device
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_array, read_json, write_json
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params
from stages.pipeline.scratch import file_lock
from stages.reporting.runs import read_score

STAGES = ("pretrain", "supervised", "semi_supervised")
PRETRAINED = "Semi-supervised, after pretraining"
SUPERVISED, FROM_RANDOM = "Supervised", "Semi-supervised from random weights, without Barlow Twins"


class Row(TypedDict):
    """A method and what it reached.

    Attributes:
        method: Name in the table.
        steps: Number of steps of its training, without those of pretraining.
        seconds: Seconds of its training, with those of pretraining.
        accuracy: Accuracy on the test images.
    """

    method: str
    steps: int
    seconds: float
    accuracy: float


class EqualTime(TypedDict):
    """Content of a results file.

    Attributes:
        machine: Device, instruction set, precision and version of PyTorch.
        inputs: Checksum of parameters, images and visible labels; rows of others are dropped.
        labels: Number of visible labels.
        test_images: Number of test images.
        rows: The methods; the first is the one whose seconds the others get.
    """

    machine: str
    inputs: str
    labels: int
    test_images: int
    rows: list[Row]


class _Cost(TypedDict):
    seconds: float
    device: str
    torch: str


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equal_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="name of a file in presets/, which params.yaml equals")
    preset = parser.parse_args().preset
    try:
        params = preset_params(preset)
        with file_lock("plateau"):
            results = measure(params, RESULTS / f"equal-time-{preset}.json")
    except UserError as error:
        sys.exit(f"equal_time: {error}")
    print(equal_time_table(results).to_markdown(index=False))


def measure(params: Params, path: Path) -> EqualTime:
    """Train what is missing, and write every row as soon as it is there.

    Raises:
        UserError: The last run was of another machine, or with another number of threads.
    """
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    costs = {stage: read_json(f"metrics/cost/{stage}.json", stage, _Cost) for stage in STAGES}
    here = (device_name(pick_device()), torch.__version__)
    for stage, cost in costs.items():
        if (cost["device"], cost["torch"]) != here:
            raise UserError(f"{stage} took its seconds on {cost['device']}, and this is {here[0]}: run it again here")
    seconds = costs["pretrain"]["seconds"] + costs["semi_supervised"]["seconds"]

    reached = read_score("semi_supervised")["accuracy"]
    first = Row(method=PRETRAINED, steps=params.semi_supervised.steps, seconds=round(seconds, 1), accuracy=reached)
    described = json.dumps([params.flat(), images.checksums, labeled.tolist()], sort_keys=True)
    results: EqualTime = {
        "machine": machine_fingerprint(),
        "inputs": hashlib.sha256(described.encode()).hexdigest(),
        "labels": len(labeled),
        "test_images": len(images.test),
        "rows": [first],
    }
    if path.exists():
        kept = read_json(path, "supervised", EqualTime)
        same = (kept["machine"], kept["inputs"]) == (results["machine"], results["inputs"])
        results = kept if same and kept["rows"][0] == first else results

    alone = {"init": "random", "barlow_weight": 0.0}
    from_random = params.model_copy(update={"semi_supervised": params.semi_supervised.model_copy(update=alone)})
    for name, method, settings, usual_steps in (
        (SUPERVISED, "supervised", params, params.supervised.steps),
        (FROM_RANDOM, "semi_supervised", from_random, params.semi_supervised.steps),
    ):
        if any(row["method"] == name for row in results["rows"]):
            continue
        steps = round(seconds * usual_steps / costs[method]["seconds"])
        taken, accuracy = train_and_test(settings, images, labeled, method, steps)
        results["rows"].append(Row(method=name, steps=steps, seconds=round(taken, 1), accuracy=round(accuracy, 6)))
        write_json(path, results)
    return results


def train_and_test(
    params: Params, images: ImageSet, labeled: NDArray[np.int64], method: str, steps: int
) -> tuple[float, float]:
    """Train a method from its first step, and return the seconds that it took and its accuracy on the test images."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    start = time.monotonic()
    model = train(params, images, labeled, method, steps, draw=0)
    seconds = time.monotonic() - start
    shutil.rmtree(SCRATCH, ignore_errors=True)
    return seconds, float(correct(predict(model, images, params.views.size)).mean())


def equal_time_table(results: EqualTime) -> pd.DataFrame:
    """Return a row for each method: its steps, seconds and accuracy."""
    rows = [
        [row["method"], f"{row['steps']:,}", f"{row['seconds']:,.0f}", f"{row['accuracy']:.1%}"]
        for row in results["rows"]
    ]
    return pd.DataFrame(rows, columns=["method", "steps", "seconds", "test accuracy"])


if __name__ == "__main__":
    main()
