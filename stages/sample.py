"""Draw the unlabelled subset that pretraining sees: data/unlabeled.npy, indices rather than copies."""

from stages.command import run
from stages.files import write_array
from stages.images.layout import open_images
from stages.images.subsets import draw_unlabeled
from stages.params import Declared


def main(params: Declared) -> str:
    available = len(open_images().unlabeled)
    chosen = draw_unlabeled(available, params.unlabeled.size, params.seed)
    write_array("data/unlabeled.npy", chosen)
    return f"{len(chosen):,} of {available:,} unlabelled images"


if __name__ == "__main__":
    run(main, __doc__)
