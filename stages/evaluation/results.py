"""What every stage that trains a classifier writes."""

from collections.abc import Mapping
from types import MappingProxyType

from stages.evaluation.accuracy import score
from stages.evaluation.predictions import predict
from stages.models.checkpoints import save_classifier
from stages.models.encoders import Classifier
from stages.pipeline.files import write_csv, write_json
from stages.pipeline.image_set import ImageSet


def record_classifier(
    method: str,
    model: Classifier,
    images: ImageSet,
    labels: int,
    size: int,
    extra: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """Evaluate a finished classifier on the test images, and write its weights, predictions and metrics.

    Writes `models/<method>.safetensors`, `plots/predictions/<method>.csv` and `metrics/<method>.json`. The metrics
    stand under the name of the method, by which `dvc exp show` tells them apart.

    Args:
        method: Name of the method: `supervised`, `probe`, `fine_tune` or `semi_supervised`.
        model: Classifier on the device that it was trained on.
        images: Image set whose test images are read.
        labels: Number of visible labels that the classifier was trained with.
        size: Height and width of the views in pixels.
        extra: Further metrics, which follow the score in the JSON file.

    Returns:
        The stage's line of result.
    """
    save_classifier(model, images.classes, images.train.shape[1], size, f"models/{method}.safetensors")
    predictions = predict(model, images, size)
    metrics = score(predictions, labels)
    write_csv(predictions, f"plots/predictions/{method}.csv")
    write_json(f"metrics/{method}.json", {method: {**metrics, **extra}})
    low, high = metrics["ci95"]
    return (
        f"test accuracy {metrics['accuracy']:.1%} (95 % CI {low:.1%} to {high:.1%}) with {labels:,} labels "
        f"on {metrics['test_images']:,} test images"
    )
