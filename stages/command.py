"""How a stage runs from the command line: parameters in, one line of result out, one line of error, one writer at a time."""

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

from stages.files import UserError
from stages.params import declared_inputs, declared_params
from stages.scratch import finish, one_writer, remove_recorded, run_directory, stop_with

# Seconds that other processes leave the first one to say what they would say too; torchrun then ends them.
_PATIENCE = 3


def run(
    main: Callable[..., str],
    description: str,
    *,
    machine: Callable[[], str] | None = None,
    with_ratio: bool = False,
    together: bool = False,
) -> None:
    """Run a stage's `main` with its declared parameters, print the line that it returns, and exit 1 on bad input.

    Args:
        main: takes the parameters; where `machine` is given, the directory in which it keeps what an interrupted run leaves for the
            next one; and the ratio where `with_ratio`.
        description: what `--help` prints.
        machine: says what the machine adds to the outcome; given by stages that go on where an interrupted run was.
        with_ratio: whether the command takes a label ratio (the stages of the study).
        together: whether all processes that torchrun has launched do this together; else the first does it alone.
    """
    first = os.environ.get("RANK", "0") == "0"
    if not (first or together):
        return
    stage = main.__module__ if main.__module__ != "__main__" else sys.modules["__main__"].__spec__.name
    stage = stage.removeprefix("stages.")
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage}",
        description=description,
        epilog="Parameters come from params.yaml; `dvc repro` runs a stage only when something it depends on has changed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if with_ratio:
        parser.add_argument(
            "ratio", help="share of the training images whose label is visible, one of study.label_ratios"
        )
    arguments = list(vars(parser.parse_args()).values())
    if pipeline := os.environ.get("PIPELINE_PROCESS"):
        stop_with(int(pipeline))
    try:
        name = "@".join([stage, *arguments])
        if first:
            remove_recorded()
        with one_writer(name) if first else nullcontext():
            params = declared_params(stage)
            if machine:
                scratch = run_directory(name, params.everything(), declared_inputs(stage), machine())
                arguments = [scratch, *arguments]
            said = main(params, *arguments)
            if first:
                print(f"{stage}: {said}", flush=True)
                if machine:
                    finish(scratch, pipeline=bool(pipeline))
    except UserError as error:
        if not first:
            time.sleep(_PATIENCE)
        sys.exit(f"{stage}: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        sys.exit(
            f"{stage}: {error.strerror} ({error.filename or 'while writing'}): free space or permit writing, then run again"
        )
    except KeyboardInterrupt:
        if not first:
            sys.exit(1)
        sys.exit(f"{stage}: interrupted" + (": run again, it goes on from there" if machine else ""))
