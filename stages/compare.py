"""Set the methods side by side: who wins on the same test images, by how much, and how sure that is."""

from stages.command import run
from stages.files import read_json, write_json, write_text
from stages.params import Declared
from stages.reporting.comparison import comparison_page, paired_differences
from stages.reporting.figures import accuracy_figure, confusion_figure, curves_figure, efficiency_figure, save_figure
from stages.reporting.records import (
    METHODS,
    describe,
    efficiency_table,
    read_history,
    read_predictions,
    score,
    write_csv,
)


def main(params: Declared) -> str:
    predictions = {method: read_predictions(method) for method in METHODS}
    labels = {method: read_json(f"metrics/{method}.json", method)["labels"] for method in METHODS}
    rows = {method: score(predictions[method], labels[method]) for method in METHODS}
    differences = paired_differences(predictions)
    study = efficiency_table(
        {ratio: read_json(f"metrics/study/{ratio}.json", "study") for ratio in params.study.label_ratios}
    )
    write_json("metrics/compare.json", rows)
    write_csv(study, "plots/label_efficiency.csv")
    write_text("plots/comparison.md", comparison_page(rows, differences, study))
    save_figure(accuracy_figure(rows), "plots/comparison.png")
    save_figure(efficiency_figure(study), "plots/label_efficiency.png")
    save_figure(confusion_figure(predictions), "plots/confusion.png")
    save_figure(
        curves_figure({stage: read_history(stage) for stage in ("supervised", "pretrain", "semi_supervised")}),
        "plots/curves.png",
    )
    return ", ".join(f"{method} {describe(row)}" for method, row in rows.items())


if __name__ == "__main__":
    run(main, __doc__)
