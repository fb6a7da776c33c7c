"""Run the whole pipeline with several seeds: metrics/seeds.json, from which `dvc repro` makes the comparison.

The first seed is that of params.yaml and is run in place. Each of the others is run in a copy of the project in
.scratch/seeds/, by DVC. A run that was interrupted resumes, and a seed that is finished is not repeated.
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import yaml
from dvc.cli import main as dvc
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.strictyaml import YAMLValidationError, validate

from stages.pipeline.errors import UserError
from stages.pipeline.files import atomic_write, write_bytes, write_json, write_text
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import IMAGENET, Params, load_params, read_yaml
from stages.pipeline.scratch import SCRATCH, file_lock
from stages.reporting.records import TITLES
from stages.reporting.runs import (
    SEEDS,
    PipelineRun,
    Setting,
    find_runs,
    images_checksum,
    read_run,
    read_settings,
    setting_parameters,
    unpacked_hits,
)

STAGES = ("supervised", "fine_tune", "semi_supervised")
COPIES = SCRATCH / "seeds"
OF_DOWNLOAD = ("data/copies.csv", "metrics/data.json")
CODE = ("stages", "stage", "dvc.yaml", ".dvcignore", ".dvc/config")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.seeds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="?", type=int, default=5, help="number of seeds, from `seed` on (default: 5)")
    parser.add_argument(
        "--forget", action="store_true", help="run nothing, but drop the finished seeds with the present parameters"
    )
    arguments = parser.parse_args()

    if Path(".venv").is_dir():
        # As `./stage` does, which finds no environment in a copy.
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONSAFEPATH"):
            os.environ.pop(name, None)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    try:
        if arguments.runs < 2:
            raise UserError(f"{arguments.runs} seed says nothing of others: ask for two or more")
        with file_lock("seeds"):
            params = load_params()
            if arguments.forget:
                keep_runs(params, open_images(), [])
                shutil.rmtree(COPIES, ignore_errors=True)
            else:
                run_seeds(params, arguments.runs)
    except UserError as error:
        sys.exit(f"seeds: {error}")


def run_seeds(params: Params, count: int) -> None:
    """Run what has no result yet, the methods with every seed and then the study, and keep each result at once.

    Args:
        params: Parameters of the project; `seed` is the first of the seeds.
        count: Number of seeds.
    """
    reproduce(params.seed, "download")
    images, ratios = open_images(), params.study.label_ratios
    for wanted in ([], ratios) if ratios else ([],):
        for seed in range(params.seed, params.seed + count):
            others = {run["seed"]: run for run in find_runs(read_settings(), params.flat(), images)}
            finished = others.pop(seed, None)
            if finished is not None and len(finished["study"]) >= len(wanted):
                continue
            run = run_seed(params, seed, wanted)
            keep_runs(params, images, [*others.values(), run])
            print(f"seed {seed}: {described(run)}", flush=True)
    shutil.rmtree(COPIES, ignore_errors=True)
    print(f"{count} seeds are finished: `dvc repro` compares them")


def described(run: PipelineRun) -> str:
    """Return what was run with a seed, in one line."""
    if run["study"]:
        return f"study with {', '.join(f'{labels:,}' for labels in sorted(run['study']))} labels"
    hits = unpacked_hits([run]).items()
    return ", ".join(f"{TITLES[method].lower()} {found.mean():.1%}" for method, found in hits)


def run_seed(params: Params, seed: int, ratios: Sequence[float]) -> PipelineRun:
    """Run the pipeline with a seed, in place if it is that of the project, and return what is kept of it.

    Args:
        params: Parameters of the project.
        seed: The seed.
        ratios: Label ratios of the study; none to leave the study out.
    """
    project = Path() if seed == params.seed else COPIES / str(seed)
    if seed != params.seed:
        repair_records(project)
        copy_project(params, seed, project)
    with chdir(project):
        reproduce(seed, *STAGES, *(["study"] if ratios else []))
        return read_run(seed, ratios)


def reproduce(seed: int, *stages: str) -> None:
    """Run what is out of date of some stages, in the present directory.

    Raises:
        UserError: A stage fails; it has said why.
    """
    if dvc(["repro", *stages]):
        raise UserError(f"the pipeline with seed {seed} stopped in {Path.cwd()}: mend what it says, then run again")


def repair_records(project: Path) -> None:
    """Repair what a kill breaks if it meets DVC writing its records, which DVC does in place.

    Of a `dvc.lock` that ends too early, the stages that are whole are kept. What DVC notes of running stages is
    removed: no process but this one works in a copy.
    """
    (project / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    lock = project / "dvc.lock"
    if not lock.exists():
        return
    text = lock.read_text(encoding="utf-8", errors="replace")
    starts = [match.start() for match in re.finditer(r"^  \S.*:$", text, re.MULTILINE)]
    while starts and not is_lock(text):
        text = text[: starts.pop()]
    if is_lock(text):
        write_text(lock, text)
    else:
        lock.unlink()


def is_lock(text: str) -> bool:
    """Return whether DVC can read a text as `dvc.lock`."""
    try:
        validate(yaml.safe_load(text), COMPILED_LOCKFILE_SCHEMA)
    except (yaml.YAMLError, YAMLValidationError):
        return False
    return True


def copy_project(params: Params, seed: int, project: Path) -> None:
    """Bring code, parameters and images of a copy up to date, and keep what was run in it.

    Images that do not depend on the seed are copied, so that they are not downloaded again.
    """
    for name in CODE:
        source, target = Path(name), project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, target)
    write_text(project / ".dvc/config.local", "[core]\n    no_scm = true\n    autostage = false\n")

    content = read_yaml("params.yaml")
    content["seed"] = seed
    if params.dataset.path:
        content["dataset"]["path"] = str(Path(params.dataset.path).absolute())
    if params.encoder.weights and params.encoder.weights != IMAGENET:
        content["encoder"]["weights"] = str(Path(params.encoder.weights).absolute())
    write_json(project / "params.yaml", content)

    if params.dataset.source != "shapes":
        described, copied = (root / "data/images/dataset.json" for root in (Path(), project))
        if not copied.exists() or copied.read_bytes() != described.read_bytes():
            with atomic_write(project / "data/images") as temporary:
                shutil.copytree("data/images", temporary)
            for name in OF_DOWNLOAD:
                write_bytes(project / name, Path(name).read_bytes())
        with chdir(project):
            if dvc(["repro", "--quiet", "scan"]) or dvc(["commit", "--force", "--quiet", "download"]):
                raise UserError(f"the images could not be recorded in {project}: remove it, then run again")


def keep_runs(params: Params, images: ImageSet, runs: list[PipelineRun]) -> None:
    """Write the runs with these parameters and images to `metrics/seeds.json`, beside those with others."""
    shared, checksum = setting_parameters(params.flat()), images_checksum(images)
    others = [s for s in read_settings() if s["parameters"] != shared or s["images"] != checksum]
    ordered = sorted(runs, key=lambda run: run["seed"])
    mine: list[Setting] = [{"parameters": shared, "images": checksum, "runs": ordered}] if runs else []
    write_json(SEEDS, [*others, *mine])


if __name__ == "__main__":
    main()
