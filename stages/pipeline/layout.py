"""How a folder of one's own images is laid out."""

from pathlib import Path

LABELS = "labels.csv"
LABELED = ("train", "test")
SPLITS = (*LABELED, "unlabeled")


def image_places(root: Path) -> list[Path]:
    """Return the directories of a folder in which its images lie: those of splits, or else the folder itself."""
    return [root / split for split in SPLITS if (root / split).is_dir()] or [root]
