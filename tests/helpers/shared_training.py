"""Train in one process, or in several under torchrun, and write the result of the main one.

PYTHONPATH=.:tests python tests/helpers/shared_training.py <file>
"""

import sys
import tempfile
from pathlib import Path

import torch

from helpers.images import random_pool
from helpers.tiny_pretraining import pretrain_tiny
from stages.losses.barlow_twins import barlow_twins_loss
from stages.methods import barlow_twins as method
from stages.models import device, distributed
from stages.models.encoders import build_encoder, build_projector


def gradients() -> dict[str, torch.Tensor]:
    """Return loss, gradients and batch statistics of one batch in float64, smaller than the embedding and larger."""
    found = {}
    for width in (8, 48):
        torch.manual_seed(0)
        encoder, projector = build_encoder("narrow", "conv3_stride2"), build_projector(256, [24, width])
        whole = torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).double()
        distributed.sync_batch_norm(whole)
        halves = torch.rand(2, 16, 3, 16, 16, dtype=torch.float64)
        mine = torch.cat([distributed.local_shard(half) for half in halves])
        first, second = map(distributed.gather, projector(encoder(mine)).chunk(2))
        terms = barlow_twins_loss(first, second, 0.01)
        sum(terms.values()).backward()
        distributed.average_gradients(list(whole.parameters()))
        named = {f"gradient {name}": weight.grad for name, weight in whole.named_parameters()}
        named |= dict(whole.named_buffers()) | {name: term.detach() for name, term in terms.items()}
        found |= {f"{width} {name}": value for name, value in named.items()}
    return found


def steps() -> dict[str, torch.Tensor]:
    """Return weights and statistics after 20 steps of pretraining in float64.

    In float32 AdamW, which divides gradients by their size, amplifies rounding differences: there, one process differs
    as much from itself with another number of threads.
    """
    build_encoder, build_projector, make_views = method.build_encoder, method.build_projector, method.make_views
    method.build_encoder = lambda *arguments: build_encoder(*arguments).double()
    method.build_projector = lambda *arguments: build_projector(*arguments).double()
    method.make_views = lambda *arguments: make_views(*arguments).double()
    device.has_bfloat16 = lambda device: False
    changes = {"projector": [32, 32], "epochs": 10, "batch_size": 24, "learning_rate": 0.001}
    with tempfile.TemporaryDirectory() as scratch:
        encoder, projector, _ = pretrain_tiny(random_pool(60, 24, 0), Path(scratch), **changes)
    return torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).state_dict()


def main(path: str) -> None:
    """Write the results of both by name."""
    with distributed.process_group():
        found = gradients() | {f"20 steps, {name}": value for name, value in steps().items()}
        if distributed.is_writer():
            torch.save(found, path)


if __name__ == "__main__":
    main(sys.argv[1])
