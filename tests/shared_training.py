"""What tests/test_processes.py runs in one process, or in several under torchrun; the first writes what came out.

python tests/shared_training.py <file>
"""

import sys
import tempfile
from pathlib import Path

import torch
from pictures import random_pictures
from tiny_pretraining import pretrain_tiny

from stages.learning import barlow_twins as method
from stages.learning import processes, training
from stages.learning.encoders import build_encoder, build_projector


def gradients() -> dict[str, torch.Tensor]:
    """Loss, gradients and batch statistics of one batch in float64, smaller than the embedding and larger."""
    found = {}
    for width in (8, 48):
        torch.manual_seed(0)
        encoder, projector = build_encoder("narrow", "conv3_stride2"), build_projector(256, [24, width])
        whole = torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).double()
        processes.with_whole_batch_statistics(whole)
        halves = torch.rand(2, 16, 3, 16, 16, dtype=torch.float64)
        mine = torch.cat([processes.share(half) for half in halves])
        first, second = map(processes.gather, projector(encoder(mine)).chunk(2))
        terms = method.weighted_barlow_twins(first, second, 0.01)
        sum(terms.values()).backward()
        processes.average_gradients(list(whole.parameters()))
        named = {f"gradient {name}": weight.grad for name, weight in whole.named_parameters()}
        named |= dict(whole.named_buffers()) | {name: term.detach() for name, term in terms.items()}
        found |= {f"{width} {name}": value for name, value in named.items()}
    return found


def steps() -> dict[str, torch.Tensor]:
    """Weights and statistics after 20 steps of pretraining in float64.

    In float32 AdamW, which divides gradients by their size, makes much of rounding: there one process comes out as far from itself
    with another number of threads.
    """
    build_encoder, build_projector, make_views = method.build_encoder, method.build_projector, method.make_views
    method.build_encoder = lambda *what: build_encoder(*what).double()
    method.build_projector = lambda *what: build_projector(*what).double()
    method.make_views = lambda *what: make_views(*what).double()
    training._has_bfloat16 = lambda device: False
    with tempfile.TemporaryDirectory() as scratch:
        changes = {"projector": [32, 32], "epochs": 10, "batch_size": 24, "learning_rate": 0.001}
        encoder, projector, _ = pretrain_tiny(random_pictures(60, 24, 0), Path(scratch), **changes)
    return torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).state_dict()


def main(path: str) -> None:
    with processes.joined():
        found = gradients() | {f"20 steps, {name}": value for name, value in steps().items()}
        if processes.is_first():
            torch.save(found, path)


if __name__ == "__main__":
    main(sys.argv[1])
