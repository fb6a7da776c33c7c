"""Compare the methods on the same test images, with confidence intervals, and write the report."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.evaluation.accuracy import describe
from stages.evaluation.statistics import (
    by_method,
    class_accuracy,
    efficiency_table,
    labels_needed,
    method_score,
    paired_differences,
)
from stages.images.views import view_recipe
from stages.pipeline.files import read_array, read_json, require, write_bytes, write_csv, write_json, write_text
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.reporting.comparison import Results, comparison_page
from stages.reporting.figures.comparison import (
    accuracy_figure,
    calibration_figure,
    class_figure,
    confusion_figure,
    curves_figure,
    efficiency_figure,
)
from stages.reporting.figures.examples import examples_figure, views_figure
from stages.reporting.figures.representation import components_figure, representation_figure
from stages.reporting.figures.style import figure_png
from stages.reporting.records import METHODS, TRAINING_TITLES, read_cost, read_history, read_predictions
from stages.reporting.report import report_page

EMBEDDINGS = Path("data/embeddings")
VIEWED_IMAGES = 6


def main(params: Params) -> str:
    images = open_images()
    results = read_results(params.study.label_ratios)
    classes = class_accuracy(results.predictions)
    embeddings = {
        int(epoch): read_array(EMBEDDINGS / f"{epoch}.npy", "embed", np.float32)
        for epoch in results.representation["epoch"]
    }
    embedded_labels = read_array(EMBEDDINGS / "labels.npy", "embed", np.int64)
    strong, weak = (view_recipe(params.views.size, section) for section in (params.views.strong, params.views.weak))

    # Tables, and figures that are files of their own.
    write_json("metrics/compare.json", results.scores)
    write_csv(classes, "plots/class_accuracy.csv")
    write_csv(by_method(results.efficiency), "plots/label_efficiency.csv")
    write_text("plots/comparison.md", comparison_page(results))
    figures = {
        "comparison": accuracy_figure(results.scores),
        "label_efficiency": efficiency_figure(results.efficiency),
        "class_accuracy": class_figure(classes),
        "confusion": confusion_figure(results.predictions),
        "calibration": calibration_figure(results.predictions, results.scores),
        "curves": curves_figure(results.histories),
    }
    pngs = {name: figure_png(figure) for name, figure in figures.items()}
    for name, png in pngs.items():
        write_bytes(f"plots/{name}.png", png)

    # Figures that only the report shows.
    figures = {
        "examples": examples_figure(images.train, images.train_labels, images.classes),
        "views": views_figure(np.array(images.unlabeled[:VIEWED_IMAGES]), strong, weak, params.seed),
        "components": components_figure(embeddings, embedded_labels, images.classes),
        "representation": representation_figure(results.representation, results.histories["pretrain"]),
    }
    pngs |= {name: figure_png(figure) for name, figure in figures.items()}
    write_text("plots/report.html", report_page(results, images, pngs, params.flat()))

    accuracies = (f"{method} {describe(score)}" for method, score in results.scores.items())
    return f"test accuracy (95 % CI): {', '.join(accuracies)}; see plots/report.html"


def read_results(label_ratios: list[float]) -> Results:
    """Collect what the other stages have written, and compute the statistics of the comparison.

    Raises:
        UserError: A file is missing or damaged.
    """
    predictions = {method: read_predictions(method) for method in METHODS}
    labels = {method: int(read_json(f"metrics/{method}.json", method)["labels"]) for method in METHODS}
    efficiency = efficiency_table({ratio: read_json(f"metrics/study/{ratio}.json", "study") for ratio in label_ratios})
    return Results(
        predictions=predictions,
        scores={method: method_score(predictions[method], labels[method]) for method in METHODS},
        differences=paired_differences(predictions),
        efficiency=efficiency,
        labels_needed=labels_needed(efficiency, "semi_supervised", "supervised"),
        representation=pd.read_csv(require("plots/representation.csv", "embed")),
        histories={stage: read_history(stage) for stage in TRAINING_TITLES},
        costs={stage: read_cost(stage) for stage in TRAINING_TITLES},
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
