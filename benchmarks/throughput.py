"""How fast pretraining is, against what the model alone would allow and against the common ways of feeding it.

(a) model only: forward and backward pass on a batch that is already on the device
(b) pipeline: pretraining as the pipeline runs it, from images memory-mapped on disk
(c) torchvision: its transforms on one image at a time in the workers of a DataLoader, then the same step as (b)
(d) lightly: its transform and data set in the same DataLoader, if it is installed (`pip install lightly`)

All have the same encoder, projector, loss, views, batch and memory allocator; "compiled" are the model of all, and the
views of (b). They take turns of a second, or of a step if that is longer, within one run of (b), while the workers of
the others stand still. Printed are images per second over all turns, and ratios, with 95 % confidence intervals. An
image is two views.
"""

import argparse
import importlib
import importlib.util
import json
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import date
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tabulate import tabulate
from torch import Tensor

from benchmarks.contenders import (
    Setting,
    lightly,
    model_only,
    pipeline,
    pipeline_recipe,
    torchvision,
    torchvision_transform,
)
from benchmarks.interleaver import Contender, Interleaver, interleave
from benchmarks.intervals import rate, ratio
from benchmarks.scaling import IMAGE_SIZE, scale_dataset, scale_settings
from benchmarks.step_breakdown import step_breakdown
from stages.images.views import crop_and_colour, draw_view_parameters, make_views
from stages.models.device import keep_freed_memory, machine_fingerprint, pick_device
from stages.pipeline.files import write_json
from stages.training.compilation import can_compile, compiled

RESULTS = Path("benchmarks/results")
VIEW_ROUNDS = 20
CONTENDERS = ("model_only", "pipeline", "torchvision", "lightly")
_EPOCH = 78  # As with the default sample of 5,000 images, so that the work at its end is counted as often as there.
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

Result = dict[str, object]


def measure_throughput(setting: Setting, images: NDArray[np.uint8], device: torch.device) -> Result:
    """Measure the images per second of all contenders, their ratios, and where the time of a step goes."""
    torch.compiler.reset()
    makers = {"model_only": model_only, "torchvision": torchvision}
    if importlib.util.find_spec("lightly"):
        makers["lightly"] = lightly
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(closing(make(setting, images, device))) for name, make in makers.items()
        }
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        interleaver = Interleaver("pipeline", contenders, device)
        pipeline(setting, images, device, Path(scratch), interleaver.before_step)
        turns = interleaver.finish()
    ours = turns["pipeline"]
    return {
        "setting": asdict(setting),
        "rounds": len(ours),
        "images_per_second": {name: rate(found, setting.batch_size) for name, found in turns.items()},
        "share_of_model_only": ratio(ours, turns["model_only"]),
        **{f"speedup_over_{name}": ratio(ours, turns[name]) for name in ("torchvision", "lightly") if name in turns},
        "model_only_speedup_over_torchvision": ratio(turns["model_only"], turns["torchvision"]),
        "step_milliseconds": step_breakdown(setting, images, device),
    }


def measure_views(images: NDArray[np.uint8], size: int = 64, batch_size: int = 64) -> Result:
    """Measure views per second on one core: crop, flip, jitter and greyscale, two views of each image.

    The pipeline makes them in batches, as they are and compiled; torchvision makes them one at a time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.compiler.reset()
    batches = np.array(images[: 8 * batch_size]).reshape(-1, batch_size, *images.shape[1:])
    contenders = {
        "pipeline": _make_views_in_batches(batches, size, crop_and_colour),
        "compiled": _make_views_in_batches(batches, size, compiled(crop_and_colour)),
        "torchvision": _make_views_one_by_one(batches, size),
    }
    turns = interleave(contenders, VIEW_ROUNDS, torch.device("cpu"))
    torch.set_num_threads(threads)
    return {
        "setting": {"view_size": size, "batch_size": batch_size, "threads": 1},
        "rounds": VIEW_ROUNDS,
        "views_per_second": {name: rate(found, 2 * batch_size) for name, found in turns.items()},
        "speedup_over_torchvision": ratio(turns["pipeline"], turns["torchvision"]),
        "compiled_speedup_over_torchvision": ratio(turns["compiled"], turns["torchvision"]),
    }


def _make_views_in_batches(batches: NDArray[np.uint8], size: int, transform: Callable[..., Tensor]) -> Contender:
    generator = torch.Generator().manual_seed(0)
    count, height, width = batches.shape[1:4]
    for batch in cycle(map(torch.from_numpy, batches)):
        parameters = draw_view_parameters(2 * count, height, width, pipeline_recipe(size), generator)
        make_views(batch, parameters, size, transform)
        if (yield):
            yield


def _make_views_one_by_one(batches: NDArray[np.uint8], size: int) -> Contender:
    transform = torchvision_transform(size)
    for batch in cycle([Image.fromarray(image) for image in batch] for batch in batches):
        for image in batch:
            transform(image), transform(image)
        if (yield):
            yield


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the throughput of all settings as a table in Markdown."""
    rows = [
        [
            part,
            *(_with_interval(result["images_per_second"].get(name), "{:,.1f}") for name in CONTENDERS),
            _with_interval(result["share_of_model_only"], "{:.1%}"),
            _with_interval(result["speedup_over_torchvision"], "{:.2f}"),
        ]
        for part, result in results.items()
        if "share_of_model_only" in result
    ]
    heads = ["images/s", "(a) model only", "(b) pipeline", "(c) torchvision", "(d) lightly", "b / a", "b / c"]
    return tabulate(rows, heads, tablefmt="github")


def _with_interval(values: dict[str, float] | None, form: str) -> str:
    return "{} ({} to {})".format(*(form.format(value) for value in values.values())) if values else ""


def main() -> None:
    """Measure the parts that the command line names, write their results, and print the table."""
    # Workers that stand still are not left behind where the run is terminated.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    device = pick_device()
    settings = GPU if device.type == "cuda" else CPU
    parts = _parse_arguments([*settings, "views", "scaling", "dataset_size"])
    _require_compiler(parts, settings, device)
    keep_freed_memory()

    # The processor is part of the name of a CPU's results, the version of torch is not.
    machine = machine_fingerprint() if device.type == "cuda" else f"{machine_fingerprint()}, {_processor()}"
    name = re.sub(r"\W+", "-", re.sub(r", torch [^,]*", "", machine)).strip("-").lower()
    path = RESULTS / f"{name}.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        count = max(setting.batch_size * setting.steps for setting in settings.values())
        images = _write_noise(Path(place) / "images.npy", count)
        for part in parts:
            found = _measure(part, settings, images, device)
            results[part] = found | _origin(f"{machine}, {platform.machine()}", found)
            write_json(path, results)
    print(results_table(results))
    print(f"\nAll results: {path}")


def _parse_arguments(choices: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Results go to {RESULTS}/<device>.json; parts that are not measured again stay as they are there.",
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(choices)}; all if none is named")
    parts: list[str] = parser.parse_args().parts or choices
    if unknown := set(parts) - set(choices):
        sys.exit(f"benchmarks: there is no part {min(unknown)}: choose from {', '.join(choices)}")
    return parts


def _require_compiler(parts: list[str], settings: Mapping[str, Setting], device: torch.device) -> None:
    devices = {device for part in parts if part in settings and settings[part].compile}
    devices |= {torch.device("cpu")} if "views" in parts else set()
    if not all(can_compile(needed, "benchmarks") for needed in devices):
        sys.exit("benchmarks: name parts that need no compiler, or install what the line above says")


def _measure(part: str, settings: Mapping[str, Setting], images: NDArray[np.uint8], device: torch.device) -> Result:
    if part in settings:
        return measure_throughput(settings[part], images, device)
    if part == "views":
        return measure_views(images)
    return {"rows": scale_settings(images, device) if part == "scaling" else scale_dataset()}


def _origin(machine: str, found: Result) -> Result:
    """Return what a result is of: the machine, the versions of the libraries compared, and the date."""
    rates = found.get("images_per_second")
    libraries = ["torchvision", "lightly"] if isinstance(rates, dict) and "lightly" in rates else ["torchvision"]
    versions = {library: importlib.import_module(library).__version__ for library in libraries}
    return {"machine": machine, **versions, "date": date.today().isoformat()}


def _processor() -> str:
    """Return the processor's name, and whether it multiplies matrices in tiles (AMX)."""
    info = Path("/proc/cpuinfo")
    line = re.search(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else None
    name = line[1] if line else platform.processor()
    return f"{name} with AMX" if torch.cpu._is_amx_tile_supported() else name


def _write_noise(path: Path, count: int) -> NDArray[np.uint8]:
    """Write `count` images of noise, and return them memory-mapped."""
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        array[start : start + 1000] = rng.integers(0, 256, (min(1000, count - start), *shape[1:]), np.uint8)
    array.flush()
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


if __name__ == "__main__":
    main()
