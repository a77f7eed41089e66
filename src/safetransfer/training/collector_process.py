"""A collector in a process of its own, which steps the hallways while the learner learns.

The two talk over a pair of sockets that nobody else can reach, in messages of (name, contents). The
process ends by itself when the learner's end is closed, however the learner came to its end. It is
a fresh interpreter rather than a fork (threads and their locks do not survive one) and not one of
`multiprocessing`, which would run the user's script again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import safetransfer.errors
from safetransfer import settings_io
from safetransfer.agent.agent import Actor
from safetransfer.errors import SafeTransferError, TrainingError
from safetransfer.replay import Chunk
from safetransfer.training.settings import Settings


class InProcess:
    """The learner's side: see `collecting.Collecting`.

    Raises:
        TrainingError: the process has died (from `finish` and the states, or at once).
        SafeTransferError: whatever of ours was raised there.
    """

    def __init__(self, settings: Settings):
        ours, theirs = socket.socketpair()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
            )
        self._pipe = Connection(ours.detach())
        try:
            self._send("settings", settings_io.to_dict(settings))
            self.shapes, self.mocap = self._answer("ready")
        except BaseException:
            self.close()
            raise

    def start(self, decisions: int) -> None:
        self._send("collect", decisions)

    def finish(self) -> tuple[Chunk, float]:
        return self._answer("chunk")

    def renew(self, actor: Actor) -> None:
        self._send("renew", actor.weights())

    def state_dict(self) -> dict[str, Any]:
        self._send("state", None)
        return self._answer("state")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._send("load", dict(state))
        self._answer("loaded")

    def close(self) -> None:
        self._pipe.close()
        try:
            self.process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, name: str, contents: Any) -> None:
        try:
            self._pipe.send((name, contents))
        except OSError as error:
            raise self._died() from error

    def _answer(self, wanted: str) -> Any:
        try:
            name, contents = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if name == "error":
            name, message = contents
            kind = getattr(safetransfer.errors, name, TrainingError)
            raise kind.__new__(kind, message)  # its words are made already
        assert name == wanted, f"{name} came where {wanted} was awaited"
        return contents

    def _died(self) -> TrainingError:
        try:
            code = self.process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            return TrainingError("the process that steps the environments does not answer")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (for want of memory?)" if code == -signal.SIGKILL else ""
        return TrainingError(f"the process that steps the environments {how}{hint}")


def main(descriptor: int) -> None:
    """The collector's side: answer messages until the other end is closed."""
    # Interrupts are for the learner to answer: it closes the pipe when all is on the disk.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe = Connection(descriptor)
    try:
        _serve(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except SafeTransferError as error:
        pipe.send(("error", (type(error).__name__, str(error))))
    except Exception:
        what = f"in the process that steps the environments:\n{traceback.format_exc()}"
        pipe.send(("error", (TrainingError.__name__, what)))


def _serve(pipe: Connection) -> None:
    import torch

    from safetransfer.training.collecting import InTurn

    torch.set_num_threads(1)
    _, plain = pipe.recv()
    settings = settings_io.from_dict(Settings, plain)
    collecting = InTurn(settings, threads=max(1, settings.train.threads - 1))
    pipe.send(("ready", (collecting.shapes, collecting.mocap)))
    while True:
        name, contents = pipe.recv()
        if name == "collect":
            collecting.start(contents)
            pipe.send(("chunk", collecting.finish()))
        elif name == "renew":
            collecting.actor.load_weights(contents)
        elif name == "state":
            pipe.send(("state", collecting.state_dict()))
        elif name == "load":
            collecting.load_state_dict(contents)
            pipe.send(("loaded", None))


if __name__ == "__main__":
    main(int(sys.argv[1]))
