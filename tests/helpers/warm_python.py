"""Python that has imported the large libraries once, and runs DVC and each stage of a test in a copy of itself.

Importing PyTorch and its companions takes several times as long as the stages of a tiny run. A server does it once in
each process of pytest and forks for each command: same module, arguments, directory, environment and output. All forks
share the seed of Python's hashes, so tests of equal bytes set LAUNCH themselves and run what people run; so do those
that kill a stage or launch it differently.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

# What is read when Python starts or a library is imported, so that only a new process can change it.
_READ_ONCE = (
    *("ATEN", "CUDA", "GOMP", "HOME", "KMP", "LANG", "LC_", "MATPLOTLIB", "MKL", "MPL", "OMP", "OPENBLAS", "PYTHON"),
    *("PYTORCH", "TORCH", "TZ", "XDG"),
)
_LIBRARIES = (
    "dvc.cli.parser",
    "dvc.repo.index",
    "dvc.repo.reproduce",
    "dvc.repo.status",
    "matplotlib.pyplot",
    "pandas",
    "PIL.Image",
    "pydantic",
    "ruamel.yaml",
    "scipy.stats",
    "seaborn",
    "sklearn.linear_model",
    "sklearn.manifold",
    "torchvision",
    "yaml",
)
_started: dict[str, str] = {}


def launcher() -> dict[str, str]:
    """Return the environment variables that let `./stage` use the server, which is started if it is not running.

    There are none where the system lacks what the server needs (Linux has it).
    """
    if not hasattr(os, "pidfd_open"):
        return {}
    if not _started:
        place = Path(tempfile.mkdtemp(prefix="warm", dir="/tmp"))  # A short path without spaces, as LAUNCH needs.
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        address, client = place / "socket", place / "warm_python.py"
        client.symlink_to(__file__)
        environment = os.environ | {"PYTHONUTF8": "1", "MPLBACKEND": "Agg"}
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(address))
            listening.listen(64)
            number = listening.fileno()
            command = [sys.executable, client, "serve", str(number)]
            server = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, pass_fds=[number])
        atexit.register(server.wait)
        atexit.register(server.stdin.close)
        _started.update(LAUNCH=f"python -SE {client}", WARM_PYTHON=str(address))
    return dict(_started)


def serve(listening: socket.socket) -> None:
    """Import the libraries, then fork for each request until standard input ends, as it does with its owner."""
    mine = _read_once(os.environ)
    for library in _LIBRARIES:
        __import__(library)
    gc.collect()
    gc.freeze()  # Collecting in a child would copy all pages that it shares with this process.

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Those that wait for the stages are not waited for.
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection, mine)
            return
        connection.close()


def _answer(connection: socket.socket, mine: dict[str, str]) -> None:
    """Run in a child what a client asks for, which ends with the client, and send its exit status.

    If its environment is not `mine` in what is read once, the client is told to start a process of its own.
    """
    message, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not message.endswith(b"\n"):
        more = connection.recv(1 << 20)
        if not more:  # The client has ended.
            os._exit(0)
        message += more
    request = json.loads(message)
    if _read_once(request["environment"]) != mine:
        connection.sendall(b"start anew")
        os._exit(0)

    child = os.fork()
    if child == 0:
        connection.close()
        _run(request, files)
        return
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    select.select([connection, ended], [], [])
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL if not select.select([ended], [], [], 0)[0] else 0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        connection.sendall(str(status).encode())
    os._exit(0)


def _run(request: dict, files: list[int]) -> None:
    """Become what `python -m module arguments` would be."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["arguments"]
    sys.argv = [module, *arguments]
    sys.path[0] = request["directory"]
    status: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:  # As Python does at the end of a program.
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)

    # What Python does at its end, but for freeing every object, which would copy the pages they share.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _read_once(environment: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k.startswith(_READ_ONCE) and k not in ("PYTHONUTF8", "MPLBACKEND")}


def ask(module: str, *arguments: str) -> None:
    """Have the server run a module, and exit as it does."""
    environment = dict(os.environ)
    request = {"arguments": [module, *arguments], "directory": str(Path.cwd()), "environment": environment}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(environment["WARM_PYTHON"])
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        answer = connection.recv(64).decode()
    if answer == "start anew":
        os.execvp("python", ["python", "-m", module, *arguments])
    status = int(answer)
    if status < 0:
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(socket.socket(fileno=int(sys.argv[2])))
    else:
        ask(*sys.argv[2:])
