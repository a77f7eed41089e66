"""Joining a Ray cluster, or starting one of one machine that the net cannot reach."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from safetransfer.errors import SettingError

INSTALL = "pip install 'safetransfer[ray]'"
_LOOPBACK = ("127.0.0.1", "::1")
_MIB = 2**20
KNOCK_WITHIN = 5.0  # seconds for the cluster to answer at all


def require_ray() -> None:
    """Raise SettingError, with what to do about it, where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise SettingError(f"--backend ray needs Ray, which is not installed: {INSTALL}")


@contextlib.contextmanager
def connected(address: str | None, num_actors: int) -> Iterator[str]:
    """Ray, ready for use; yields a sentence about where it runs.

    Args:
        address: of a cluster of which this machine is a node ("auto" finds the one that runs
            here). None takes the one that ``RAY_ADDRESS`` names, or else starts one on this
            machine, with a core for each actor and one for the learner.
        num_actors: how many actors there will be, for a cluster that is started here.

    A connection that is there already is used, and left. SettingError where there is no cluster at
    the address, or this machine is none of its nodes.
    """
    require_ray()
    import ray
    import ray.exceptions

    if ray.is_initialized():
        yield "using the connection to Ray that is there"
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address != "local":
        if "://" in address:
            raise SettingError(
                f"--ray-address {address}: a run writes its directory where it is started, so "
                "that machine has to be a node of the cluster (`ray start --address=HOST:PORT`), "
                "and the address is HOST:PORT or 'auto'"
            )
        if address != "auto":
            _knock(address)
        try:
            ray.init(address=address, **quiet)
        except ray.exceptions.AuthenticationError as error:
            raise SettingError(
                f"--ray-address {address}: the cluster asks for a token. Set RAY_AUTH_MODE=token, "
                "with the cluster's token in ~/.ray/auth_token"
            ) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise SettingError(
                f"--ray-address {address}: {reason}. Is there a cluster at that address, and is "
                "this machine a node of it (`ray start --address=HOST:PORT`)?"
            ) from error
        where = f"joined the Ray cluster at {address}"
    else:
        _listen_on_loopback()
        ray.init(
            address="local",
            num_cpus=num_actors + 1,
            include_dashboard=False,
            # Chunks and parameters pass through it; what is kept is kept elsewhere.
            object_store_memory=max(256, 16 * num_actors) * _MIB,
            # Ray would have everything yield to other programs; a run is what this was started for.
            _system_config={"worker_niceness": 0},
            **quiet,
        )
        own = ray.nodes()[0]["NodeManagerAddress"]
        reach = "this machine only" if own in _LOOPBACK else f"the net, as {own}"
        where = f"started Ray on this machine; it listens to {reach}"
    try:
        yield where
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise SettingError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdigit()):
        raise SettingError(f"--ray-address {address}: expected HOST:PORT, or 'auto'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_WITHIN).close()
    except OSError as error:
        raise SettingError(
            f"--ray-address {address}: nothing answers there ({error}). `ray start --head` on the "
            "cluster's first machine says its address"
        ) from error


def _listen_on_loopback() -> None:
    """Have what Ray starts next listen to this machine alone.

    Ray has no option for it on Linux, where it would listen to the net. Elsewhere this is what it
    does by itself; the switch between the two is read from here. Should it ever go, the sentence
    that `connected` yields says so, and nothing else changes.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False
