"""How a stage runs: parameters in, one line of result out, one line of error, one writer at a time."""

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NoReturn

from stages.pipeline.errors import ProcessDiedError, UserError
from stages.pipeline.params import declared_inputs, declared_params
from stages.pipeline.processes import is_main_process, launched_processes
from stages.pipeline.scratch import (
    claim_error_report,
    exit_with_parent,
    file_lock,
    finish,
    remove_recorded,
    run_directory,
)

# Seconds that the main process, the others, and those that only notice the end of another one leave to the report of
# its cause, and seconds that a process which has nothing to add waits for torchrun to end it.
_MAIN_WAITS, _OTHERS_WAIT, _CONSEQUENCE_WAITS, _REPORTED_WAITS = 0, 3, 9, 60
_REPAIRABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)


def run_stage(
    main: Callable[..., str],
    description: str | None,
    *,
    fingerprint: Callable[[], str] | None = None,
    takes_ratio: bool = False,
    all_processes: bool = False,
) -> None:
    """Run a stage with its declared parameters, print the line that it returns, and exit with code 1 on bad input.

    Args:
        main: Function of the stage. It takes the declared parameters; if the stage is resumable, the directory for its
            checkpoints; and the ratio if the stage takes one.
        description: Text that `--help` prints.
        fingerprint: Function that describes what the machine adds to the result, which is printed first; it makes the
            stage resumable.
        takes_ratio: Whether the command takes a label ratio, as the study does.
        all_processes: Whether all processes that torchrun launched run the stage; otherwise only the main one does.
    """
    is_main = is_main_process()
    if not (is_main or all_processes):
        return
    stage = _stage_name(main)
    arguments = _parse_arguments(stage, description, takes_ratio)
    run = "@".join([stage, *arguments])
    dvc = os.environ.get("PIPELINE_PROCESS")
    if dvc:
        exit_with_parent(int(dvc))

    try:
        if is_main:
            remove_recorded()
        with file_lock(run) if is_main else nullcontext():
            params = declared_params(stage)
            if fingerprint is None:
                result = main(params, *arguments)
            else:
                machine = fingerprint()
                if is_main:
                    print(f"device: {machine}", file=sys.stderr, flush=True)
                scratch = run_directory(run, params.flat(), declared_inputs(stage), machine)
                result = main(params, scratch, *arguments)
            if is_main:
                print(f"{stage}: {result}", flush=True)
                if fingerprint is not None:
                    finish(scratch, pipeline=bool(dvc))

    except UserError as error:
        _exit(run, f"{stage}: {error}", is_consequence=isinstance(error, ProcessDiedError))
    except OSError as error:
        if error.errno not in _REPAIRABLE:
            raise
        where = error.filename or "while writing"
        _exit(run, f"{stage}: {error.strerror} ({where}): free space or permit writing, then run again")
    except KeyboardInterrupt:
        resumes = ": run again to resume" if fingerprint is not None else ""
        sys.exit(f"{stage}: interrupted{resumes}" if is_main else 1)


def _stage_name(main: Callable[..., str]) -> str:
    module = main.__module__
    spec = sys.modules["__main__"].__spec__
    if module == "__main__" and spec is not None:
        module = spec.name
    return module.removeprefix("stages.")


def _parse_arguments(stage: str, description: str | None, takes_ratio: bool) -> list[str]:
    parser = argparse.ArgumentParser(
        prog=f"./stage {stage}",
        description=description,
        epilog="Parameters come from params.yaml. `dvc repro` runs a stage only if what it reads has changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if takes_ratio:
        parser.add_argument("ratio", help="share of the training labels that are visible, one of study.label_ratios")
    return list(vars(parser.parse_args()).values())


def _exit(run: str, line: str, *, is_consequence: bool = False) -> NoReturn:
    """Exit with one line of error, which a single process prints however many torchrun launched.

    Torchrun ends all processes when one exits. So the main one, which may be writing, comes first, and the consequence
    of another process's error last.
    """
    if launched_processes() > 1:
        waits = _MAIN_WAITS if is_main_process() else _OTHERS_WAIT
        time.sleep(_CONSEQUENCE_WAITS if is_consequence else waits)
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT")
        launch = " ".join([*(os.environ.get(name, "") for name in names), str(os.getppid())])
        if not claim_error_report(run, launch):
            time.sleep(_REPORTED_WAITS)
            sys.exit(1)
    sys.exit(line)
