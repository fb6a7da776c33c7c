"""Pretrain an encoder on the unlabelled sample by Barlow Twins, and keep it from random weights to the last epoch."""

from torch import nn

from stages.command import run
from stages.files import read_array, replacing, write_json
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.barlow_twins import pretrain
from stages.learning.checkpoints import epoch_checkpoints, load_encoder, save_encoder, save_projector
from stages.learning.encoders import Encoder
from stages.learning.representation import check_collapse
from stages.learning.schedules import checkpoint_epochs
from stages.learning.training import on_device, pick_device
from stages.params import Declared
from stages.reporting.records import collapse_warning, record_training


def main(params: Declared) -> str:
    images, sample = open_images(), read_array("data/unlabeled.npy", "sample")
    pictures = on_device(images.unlabeled, sample, pick_device())
    settings = dict(**params.pretrain)
    kept = checkpoint_epochs(settings["epochs"], settings.pop("checkpoints"))
    with replacing("models/pretrain") as directory:
        directory.mkdir()

        def keep(epoch: int, encoder: Encoder, projector: nn.Module) -> None:
            if epoch in kept:
                save_encoder(encoder, directory / f"{epoch}.safetensors")
            if epoch == kept[-1]:
                save_projector(projector, encoder.width, settings["projector"], directory / "projector.safetensors")

        trained = pretrain(
            pictures,
            encoder=params.encoder.name,
            stem=params.encoder.stem,
            views=ViewRecipe(params.views.size, **params.views.strong),
            seed=params.seed,
            keep=keep,
            **settings,
        )
    record_training("pretrain", trained)
    encoder = load_encoder(epoch_checkpoints("models/pretrain")[-1][1]).to(pictures.device)
    state = check_collapse(encoder, pictures, params.views.size)
    last = {term: round(trained.history[-1][term], 6) for term in ("loss", "invariance", "redundancy")}
    write_json("metrics/pretrain.json", last | state)
    return (
        f"loss {trained.history[0]['loss']:.3f} in the first epoch, {trained.history[-1]['loss']:.3f} in the last of "
        f"{len(trained.history)}, {trained.cost['images_per_second']:,.0f} images/s; {len(kept)} checkpoints kept{collapse_warning(state)}"
    )


if __name__ == "__main__":
    run(main, __doc__)
