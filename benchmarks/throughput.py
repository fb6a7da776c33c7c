"""How fast pretraining is, against the limit that the model sets and against the usual ways of feeding it.

(a) the limit: forward and backward pass of the model on a batch that is already there
(b) pretraining as the pipeline runs it, from images mapped from disk
(c) the usual way: torchvision's transforms on one picture at a time, in the workers of a DataLoader, then the same step as (b)
(d) lightly's transform and data set in the same DataLoader, where it is installed (`pip install lightly`)

All have the same encoder, projector, loss, views, batch and allocator of memory; "compiled" is the model of all, and the views of
(b). They work in turn, a second or a step each, within one run of (b), while the workers of the others stand still. Printed are
images per second over all turns, and ratios, with their 95 % intervals. An image is two views.
"""

import argparse
import importlib.util
import json
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import version
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from benchmarks.contenders import Guest, Setting, lightly, limit, ours, parts_of_a_step, recipe, usual, usual_transform
from benchmarks.growth import GROWTH_OF_IMAGES
from benchmarks.turns import Turns, in_turn, rate, ratio
from stages.files import write_json
from stages.images.views import crop_and_colour, draw_view_parameters, make_views
from stages.learning.batches import pick_device
from stages.learning.training import can_compile, compiled, keep_freed_memory, machine

RESULTS = Path("benchmarks/results")
IMAGE_SIZE = 96
ROUNDS_OF_GROWTH = 5
ROUNDS_OF_VIEWS = 20
CONTENDERS = ("limit", "ours", "usual", "lightly")
_EPOCH = 78  # Steps in which the default sample of 5,000 images is seen once: what an epoch ends with is not counted too often.
CPU = {
    "narrow": Setting(steps=_EPOCH, epochs=4),
    "narrow, compiled": Setting(steps=_EPOCH, epochs=4, compile=True),
    "resnet18": Setting("resnet18", "conv3_pool", steps=_EPOCH, epochs=2),
}
GPU = {
    f"resnet18, {size} pixels, batch {batch}{', compiled' if compile else ''}": Setting(
        "resnet18", "conv3_pool", (2048, 2048), size, batch, 102_400 // batch, 4, compile
    )
    for size in (64, 96)
    for batch in (256, 1024)
    for compile in (False, True)
}
GROWTH = {
    "view_size": (32, 64, 96),
    "batch_size": (32, 64, 128, 256),
    "encoder": ("narrow", "resnet18"),
    "projector": ((256, 256), (1024, 1024), (4096, 4096)),
}


def throughput(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> dict:
    """Rates of all contenders, how they compare, and where the time of a step goes."""
    torch.compiler.reset()
    guests = {"limit": limit, "usual": usual}
    if importlib.util.find_spec("lightly"):
        guests["lightly"] = lightly
    with ExitStack() as stack:
        working = {name: stack.enter_context(closing(make(setting, images, device))) for name, make in guests.items()}
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        turns = Turns("ours", working, device)
        ours(setting, images, device, Path(scratch), turns.between_steps)
        taken = turns.finish()
    return {
        "setting": asdict(setting),
        "turns": len(taken["ours"]),
        "images_per_second": {name: rate(found, setting.batch_size) for name, found in taken.items()},
        "share_of_limit": ratio(taken["ours"], taken["limit"]),
        **{f"times_{name}": ratio(taken["ours"], taken[name]) for name in taken if name not in ("ours", "limit")},
        "limit_times_usual": ratio(taken["limit"], taken["usual"]),
        "milliseconds_of_a_step": parts_of_a_step(setting, images, device),
    }


def views_alone(images: NDArray[np.uint8], size: int = 64, batch_size: int = 64) -> dict:
    """Views per second on one core, two of each image: ours in batches, as they are and compiled, torchvision's one at
    a time; crop, flip, jitter, greyscale."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.compiler.reset()
    batches = np.array(images[: 8 * batch_size]).reshape(-1, batch_size, *images.shape[1:])
    generator, transform = torch.Generator().manual_seed(0), usual_transform(size)

    def batched(change_all: Callable[..., Tensor]) -> Guest:
        for batch in cycle(map(torch.from_numpy, batches)):
            drawn = draw_view_parameters(2 * batch_size, *batch.shape[1:3], recipe(size), generator)
            make_views(batch, drawn, size, change_all)
            if (yield):
                yield

    def one_at_a_time() -> Guest:
        for batch in cycle([Image.fromarray(image) for image in batch] for batch in batches):
            for picture in batch:
                transform(picture), transform(picture)
            if (yield):
                yield

    contenders = {
        "ours": batched(crop_and_colour),
        "compiled": batched(compiled(crop_and_colour)),
        "usual": one_at_a_time(),
    }
    taken = in_turn(contenders, ROUNDS_OF_VIEWS, torch.device("cpu"))
    torch.set_num_threads(threads)
    return {
        "setting": {"view_size": size, "batch_size": batch_size, "threads": 1},
        "rounds": ROUNDS_OF_VIEWS,
        "views_per_second": {name: rate(turns, 2 * batch_size) for name, turns in taken.items()},
        "times_usual": ratio(taken["ours"], taken["usual"]),
        "compiled_times_usual": ratio(taken["compiled"], taken["usual"]),
    }


def growth(images: NDArray[np.uint8], device: torch.device) -> list[dict]:
    """Milliseconds that an image costs as one thing grows and the rest stays, one run each after one to warm up."""
    rows = []
    for what, values in GROWTH.items():
        for value in values:
            setting = replace(Setting(), **{what: value})
            setting = replace(
                setting, steps=max(3, (300 if setting.encoder == "resnet18" else 1500) // setting.batch_size)
            )
            with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
                ours(setting, images, device, Path(first))
                speed = ours(setting, images, device, Path(second))
            rows.append({"what": what, "value": str(value), "milliseconds_per_image": round(1000 / speed, 3)})
    return rows


def growth_of_images() -> list[dict]:
    """The same as the number of images grows, with the memory that it takes: interleaved runs, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth"]
    found: dict[int, list[dict]] = {count: [] for count in GROWTH_OF_IMAGES}
    for _ in range(ROUNDS_OF_GROWTH):
        for count, runs in found.items():
            done = subprocess.run([*command, str(count)], check=True, stdout=subprocess.PIPE)
            runs.append(json.loads(done.stdout))
    return [
        {
            "images": count,
            "milliseconds_per_image": statistics.median(run["milliseconds_per_image"] for run in runs),
            "each": [run["milliseconds_per_image"] for run in runs],
            "gib_beside_mapped": max(run["gib_beside_mapped"] for run in runs),
        }
        for count, runs in found.items()
    ]


def table(results: dict) -> str:
    """The results of one machine as text."""
    rows = [
        [
            part,
            *(_shown(result["images_per_second"].get(name), "{:,.1f}") for name in CONTENDERS),
            _shown(result["share_of_limit"], "{:.1%}"),
            _shown(result["times_usual"], "{:.2f}"),
        ]
        for part, result in results.items()
        if "share_of_limit" in result
    ]
    heads = ["images/s", "(a) limit", "(b) pretrain", "(c) torchvision", "(d) lightly", "b / a", "b / c"]
    return tabulate(rows, heads, tablefmt="github")


def _shown(values: dict[str, float] | None, form: str) -> str:
    return "{} ({} to {})".format(*(form.format(value) for value in values.values())) if values else ""


def main() -> None:
    device = pick_device()
    settings = GPU if device.type == "cuda" else CPU
    keep_freed_memory()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # So that workers that rest are not left behind.
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Results go to {RESULTS}/<device>.json; parts that are not measured anew stay as they are there.",
    )
    choices = [*settings, "views", "growth", "images"]
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(choices)}; all if none is named")
    wanted = parser.parse_args().parts or choices
    if unknown := set(wanted) - set(choices):
        sys.exit(f"benchmarks: there is no part {sorted(unknown)[0]}: choose from {', '.join(choices)}")
    here = machine() if device.type == "cuda" else f"{machine()}, {_processor()}"
    name = re.sub(r"\W+", "-", re.sub(r", torch [^,]*", "", here)).strip("-").lower()
    path = RESULTS / f"{name}.json"
    compiled_for = {device for part in wanted if part in settings and settings[part].compile}
    compiled_for |= {torch.device("cpu")} if "views" in wanted else set()
    if not all(can_compile(kind, "benchmarks") for kind in compiled_for):
        sys.exit("benchmarks: name parts that need no compiler, or see what the line above says")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        images = _noise(Path(place) / "images.npy", max(s.batch_size * s.steps for s in settings.values()))
        for part in wanted:
            if part in settings:
                found = throughput(settings[part], images, device)
            elif part == "views":
                found = views_alone(images)
            else:
                found = {"rows": growth(images, device) if part == "growth" else growth_of_images()}
            results[part] = found | {
                "machine": f"{here}, {platform.machine()}",
                "torchvision": torchvision.__version__,
                **({"lightly": version("lightly")} if "lightly" in found.get("images_per_second", {}) else {}),
                "date": date.today().isoformat(),
            }
            write_json(path, results)
    print(table(results))
    print(f"\nAll figures: {path}")


def _processor() -> str:
    """What the processor calls itself, and whether it multiplies matrices in tiles (AMX)."""
    info = Path("/proc/cpuinfo")
    line = re.search(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    return (line[1] if line else platform.processor()) + (" with AMX" if torch.cpu._is_amx_tile_supported() else "")


def _noise(path: Path, count: int) -> NDArray[np.uint8]:
    """`count` images, mapped from disk."""
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        array[start : start + 1000] = rng.integers(0, 256, (min(1000, count - start), *shape[1:]), np.uint8)
    array.flush()
    return np.load(path, mmap_mode="r")


if __name__ == "__main__":
    main()
