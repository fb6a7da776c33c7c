"""The page to label images on, in one offline file that saves labels.csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.images.sources.labels import LabelTable, normal_name
from stages.reporting.pages import jpeg_url, render


@dataclass(frozen=True)
class Picture:
    """An image to label.

    Attributes:
        file: File of the image, relative to the folder.
        split: What the label is for, `train` or `test`.
        pixels: (H, W, 3) RGB bytes.
        stands_for: Number of images that it was suggested for; 0 if it was not suggested.
    """

    file: str
    split: str
    pixels: NDArray[np.uint8]
    stands_for: int = 0


def label_page(pictures: Sequence[Picture], classes: Sequence[str], table: LabelTable, folder: Path | None) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        pictures: Images to label, in the order in which to label them.
        classes: Names of the classes so far.
        table: Labels so far; the page changes and adds rows.
        folder: Folder that the table belongs into; None if the images come from no files.
    """
    content = {
        "folder": None if folder is None else str(folder.absolute()),
        # Labels that are not saved yet are kept in the browser under this name.
        "store": f"labels of {folder} for {Path.cwd()}",
        "classes": list(classes),
        "table": table._asdict(),
        "pictures": [
            {
                "file": picture.file,
                "name": normal_name(picture.file),
                "split": picture.split,
                "standsFor": picture.stands_for,
                "image": jpeg_url(Image.fromarray(picture.pixels)),
            }
            for picture in pictures
        ],
    }
    return render("label.html", content=content, is_there=folder is not None and folder.is_dir())
