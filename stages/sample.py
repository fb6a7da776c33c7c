"""Draw the unlabelled subset that pretraining sees: data/unlabeled.npy, indices rather than copies."""

from stages.images.subsets import draw_unlabeled
from stages.pipeline.files import write_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed


def main(params: Params) -> str:
    available = len(open_images().unlabeled)
    sample = draw_unlabeled(available, params.unlabeled.size, derive_seed(params.seed, "sample"))
    write_array("data/unlabeled.npy", sample)
    return f"{len(sample):,} of {available:,} unlabelled images"


if __name__ == "__main__":
    run_stage(main, __doc__)
