"""Set the methods side by side: who wins on the same test images, by how much, and how sure that is."""

from stages.command import run
from stages.files import read_json, write_json, write_text
from stages.params import Declared
from stages.reporting.comparison import comparison_page
from stages.reporting.figures import (
    accuracy_figure,
    calibration_figure,
    class_figure,
    confusion_figure,
    curves_figure,
    efficiency_figure,
    save_figure,
)
from stages.reporting.records import METHODS, describe, read_history, read_predictions, score, write_csv
from stages.reporting.statistics import (
    calibration_error,
    class_accuracy,
    efficiency_table,
    labels_needed,
    paired_differences,
    reliability,
)


def main(params: Declared) -> str:
    predictions = {method: read_predictions(method) for method in METHODS}
    labels = {method: read_json(f"metrics/{method}.json", method)["labels"] for method in METHODS}
    errors = {method: round(calibration_error(table), 6) for method, table in predictions.items()}
    rows = {method: score(predictions[method], labels[method]) | {"ece": errors[method]} for method in METHODS}
    classes = class_accuracy(predictions)
    efficiency = efficiency_table(
        {ratio: read_json(f"metrics/study/{ratio}.json", "study") for ratio in params.study.label_ratios}
    )
    needed = labels_needed(efficiency, "semi_supervised", "supervised")
    curves = {stage: read_history(stage) for stage in ("supervised", "pretrain", "fine_tune", "semi_supervised")}

    write_json("metrics/compare.json", rows)
    write_csv(classes, "plots/class_accuracy.csv")
    write_csv(efficiency, "plots/label_efficiency.csv")
    write_text("plots/comparison.md", comparison_page(rows, paired_differences(predictions), efficiency, needed))
    save_figure(accuracy_figure(rows), "plots/comparison.png")
    save_figure(efficiency_figure(efficiency), "plots/label_efficiency.png")
    save_figure(class_figure(classes), "plots/class_accuracy.png")
    save_figure(confusion_figure(predictions), "plots/confusion.png")
    save_figure(
        calibration_figure({m: reliability(t) for m, t in predictions.items()}, errors), "plots/calibration.png"
    )
    save_figure(curves_figure(curves), "plots/curves.png")
    return ", ".join(f"{method} {describe(row)}" for method, row in rows.items())


if __name__ == "__main__":
    run(main, __doc__)
