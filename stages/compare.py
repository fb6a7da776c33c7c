"""Set the methods side by side: who wins on the same test images, by how much, and how sure that is; and write it up."""

from pathlib import Path

import pandas as pd

from stages.command import run
from stages.files import read_array, read_json, require, write_bytes, write_json, write_text
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.params import Declared
from stages.reporting.comparison import comparison_page
from stages.reporting.figures import (
    accuracy_figure,
    calibration_figure,
    class_figure,
    confusion_figure,
    curves_figure,
    efficiency_figure,
    figure_png,
)
from stages.reporting.records import METHODS, describe, read_history, read_predictions, score, write_csv
from stages.reporting.report import illustrations, report_page
from stages.reporting.statistics import (
    by_method,
    calibration_error,
    class_accuracy,
    efficiency_table,
    labels_needed,
    paired_differences,
    reliability,
)

EMBEDDINGS = Path("data/embeddings")
DRAWN = ("comparison", "label_efficiency", "class_accuracy", "confusion", "calibration", "curves")
TRAININGS = ("supervised", "pretrain", "fine_tune", "semi_supervised")


def main(params: Declared) -> str:
    images, histories = open_images(), {stage: read_history(stage) for stage in TRAININGS}
    predictions = {method: read_predictions(method) for method in METHODS}
    labels = {method: read_json(f"metrics/{method}.json", method)["labels"] for method in METHODS}
    errors = {method: round(calibration_error(table), 6) for method, table in predictions.items()}
    rows = {method: score(predictions[method], labels[method]) | {"ece": errors[method]} for method in METHODS}
    classes = class_accuracy(predictions)
    differences = paired_differences(predictions)
    efficiency = efficiency_table(
        {ratio: read_json(f"metrics/study/{ratio}.json", "study") for ratio in params.study.label_ratios}
    )
    needed = labels_needed(efficiency, "semi_supervised", "supervised")
    numbers = pd.read_csv(require("plots/representation.csv", "embed"))

    write_json("metrics/compare.json", rows)
    write_csv(classes, "plots/class_accuracy.csv")
    write_csv(by_method(efficiency), "plots/label_efficiency.csv")
    write_text("plots/comparison.md", comparison_page(rows, differences, efficiency, needed))
    figures = {
        "comparison": accuracy_figure(rows),
        "label_efficiency": efficiency_figure(efficiency),
        "class_accuracy": class_figure(classes),
        "confusion": confusion_figure(predictions),
        "calibration": calibration_figure({m: reliability(t) for m, t in predictions.items()}, errors),
        "curves": curves_figure(histories),
    }
    figures |= illustrations(
        images,
        {int(epoch): read_array(EMBEDDINGS / f"{epoch}.npy", "embed") for epoch in numbers["epoch"]},
        read_array(EMBEDDINGS / "labels.npy", "embed"),
        numbers,
        histories["pretrain"],
        weak=ViewRecipe(params.views.size, **params.views.weak),
        strong=ViewRecipe(params.views.size, **params.views.strong),
        seed=params.seed,
    )
    pictures = {name: figure_png(figure) for name, figure in figures.items()}
    for name in DRAWN:
        write_bytes(f"plots/{name}.png", pictures[name])
    write_text(
        "plots/report.html",
        report_page(
            images,
            predictions,
            rows,
            differences,
            efficiency,
            needed,
            numbers,
            costs={stage: read_json(f"metrics/cost/{stage}.json", stage) for stage in TRAININGS},
            parameters=params.everything(),
            pictures=pictures,
        ),
    )
    return ", ".join(f"{method} {describe(row)}" for method, row in rows.items()) + "; plots/report.html tells it all"


if __name__ == "__main__":
    run(main, __doc__)
