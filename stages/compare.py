"""Compare the methods on the same test images, over this run and those with other seeds, and write the report."""

import numpy as np

from stages.evaluation.accuracy import METHODS, describe
from stages.evaluation.statistics import by_method, class_accuracy, efficiency_table, method_score, paired_differences
from stages.evaluation.warnings import early_stop_sentence, imagenet_sentence, unlike_sentence, with_warning
from stages.images.views import view_recipe
from stages.pipeline.files import write_bytes, write_csv, write_json, write_text
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.reporting.comparison import (
    Results,
    comparison_page,
    other_result_sentence,
    shown_efficiency,
    summarise_runs,
    whole_seconds,
)
from stages.reporting.figures.comparison import (
    accuracy_figure,
    calibration_figure,
    class_figure,
    confusion_figure,
    cost_figure,
    curves_figure,
    efficiency_figure,
)
from stages.reporting.figures.examples import examples_figure, views_figure
from stages.reporting.figures.representation import components_figure, representation_figure
from stages.reporting.figures.style import choose_fonts, figure_png
from stages.reporting.records import (
    TRAINING_TITLES,
    read_cost,
    read_data,
    read_distances,
    read_embeddings,
    read_history,
    read_predictions,
    read_representation,
    read_study_cost,
)
from stages.reporting.report import report_page
from stages.reporting.runs import find_runs, read_score, read_settings, read_study

VIEWED_IMAGES = 6


def main(params: Params) -> str:
    images, embeddings = open_images(), read_embeddings()
    missing_letters = choose_fonts(images.classes)
    results = read_results(params, images)
    classes = class_accuracy(results.predictions)
    # Independent dimensions have squared sample correlations of 1 / N in a batch of N images.
    pretraining = params.pretrain
    redundancy_floor = pretraining.redundancy_weight * (pretraining.projector[-1] - 1) / pretraining.batch_size
    strong, weak = (view_recipe(params.views.size, section) for section in (params.views.strong, params.views.weak))

    # Tables, and figures that are files of their own.
    write_json("metrics/compare.json", results.scores)
    write_csv(classes, "plots/class_accuracy.csv")
    write_csv(by_method(shown_efficiency(results)), "plots/label_efficiency.csv")
    write_text("plots/comparison.md", comparison_page(results))
    figures = {
        "comparison": accuracy_figure(results.scores, results.runs),
        "label_efficiency": efficiency_figure(shown_efficiency(results)),
        "class_accuracy": class_figure(classes, images.classes),
        "confusion": confusion_figure(results.predictions),
        "calibration": calibration_figure(results.predictions, results.scores),
        "curves": curves_figure(results.histories, redundancy_floor),
    }
    pngs = {name: figure_png(figure) for name, figure in figures.items()}
    for name, png in pngs.items():
        write_bytes(f"plots/{name}.png", png)

    # Figures that only the report shows.
    sampled = np.array(images.unlabeled[:VIEWED_IMAGES])
    figures = {
        "examples": examples_figure(images.train, images.train_labels, images.classes),
        "views": views_figure(sampled, strong, weak, derive_seed(params.seed, "compare")),
        "components": components_figure(embeddings.features, embeddings.labels, images.classes),
        "representation": representation_figure(results.representation, results.histories["pretrain"]),
        "cost": cost_figure(results.scores, whole_seconds(results)),
    }
    pngs |= {name: figure_png(figure) for name, figure in figures.items()}
    write_text("plots/report.html", report_page(results, images, pngs, params.flat()))

    accuracies = (f"{method} {describe(score)}" for method, score in results.scores.items())
    line = f"test accuracy of seed {params.seed} (95 % CI): {', '.join(accuracies)}; see plots/report.html"
    return with_warning(line, missing_letters)


def read_results(params: Params, images: ImageSet) -> Results:
    """Collect what the other stages have written, and compute the statistics of the comparison.

    Raises:
        UserError: A file is missing or damaged.
    """
    predictions = {method: read_predictions(method) for method in METHODS}
    scores = {method: method_score(predictions[method], read_score(method)["labels"]) for method in METHODS}
    histories = {stage: read_history(stage) for stage in TRAINING_TITLES}
    weights = {"supervised": 1.0, "fine_tune": 1.0, "semi_supervised": params.semi_supervised.cross_entropy_weight}
    (data, copies), from_random = read_data(), params.semi_supervised.init == "random"
    runs, classes = find_runs(read_settings(), params.flat(), images), len(images.classes)

    # What may mislead, if there is anything.
    sentences = [early_stop_sentence(name, histories[name], classes, weight) for name, weight in weights.items()]
    sentences.append(unlike_sentence(**read_distances()))
    sentences.append(imagenet_sentence(images.source, params.encoder.weights))
    sentences.append(other_result_sentence(params.seed, predictions, runs))

    return Results(
        seed=params.seed,
        predictions=predictions,
        scores=scores,
        differences=paired_differences(predictions),
        efficiency=efficiency_table(scores, {ratio: read_study(ratio) for ratio in params.study.label_ratios}),
        runs=summarise_runs(runs, from_random=from_random),
        warnings=[sentence for sentence in sentences if sentence],
        from_random=from_random,
        representation=read_representation(),
        histories=histories,
        costs={stage: read_cost(stage) for stage in TRAINING_TITLES},
        study_costs={ratio: read_study_cost(ratio) for ratio in params.study.label_ratios},
        data=data,
        copies=copies,
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
