"""The parser, and options that several commands take, each beside what reads it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from safetransfer.errors import SettingError, UnknownNameError

BACKENDS = ("local", "ray")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are errors like any other."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message} (see: {self.prog} --help)")


def _at_least(least: int) -> Callable[[str], int]:
    """Type of an option: a whole number, `least` or more."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value} is not {least} or more")
        return value

    number.__name__ = "whole number"  # argparse names the type by it
    return number


positive, seed = _at_least(1), _at_least(0)


def add_mocap(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--mocap",
        metavar="DIR",
        help="folder of ASF/AMC or BVH clips that people move by "
        "(default: $SAFETRANSFER_MOCAP, else built-in motions; 'none': those in any case)",
    )


def chosen_mocap(arguments: argparse.Namespace, setting: str | None = None) -> str | None:
    """The folder of clips: of the flag, else of the settings, else of the variable, else None.

    Raises SettingError where it does not exist.
    """
    from safetransfer.envs.mocap.folder import mocap_folder

    if arguments.mocap == "none":
        return None
    folder = mocap_folder(arguments.mocap or setting)
    if folder is None:
        return None
    if not folder.is_dir():
        raise SettingError(f"the folder of motion-capture clips {folder} does not exist")
    return str(folder)


def add_act_by(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--act-by",
        metavar="{mode,sample,SHARE}",
        help="act by the policy's most likely action, by samples as in training, or with that "
        "share of their noise, such as 0.5 (default: the agent's own agent.act_by)",
    )


def chosen_noise(arguments: argparse.Namespace) -> float | None:
    """Share of its exploration that the agent acts with; None: as its settings say.

    Raises SettingError and UnknownNameError.
    """
    given = arguments.act_by
    ways = {"mode": 0.0, "sample": 1.0}
    if given is None or given in ways:
        return None if given is None else ways[given]
    try:
        share = float(given)
    except ValueError:
        known = (*ways, "a share from 0 to 1")
        raise UnknownNameError("value of --act-by", given, known) from None
    if not 0.0 <= share <= 1.0:
        raise SettingError(f"--act-by {given} is not a share from 0 to 1, nor mode or sample")
    return share


def add_carry(parser: argparse.ArgumentParser, default: str, replay: bool = True) -> None:
    parser.add_argument(
        "--carry",
        metavar="WHAT",
        default=default,
        help="what is taken over from the earlier agent, each with all before it: policy, weights "
        f"(the critics, too), multiplier, optimisers{', replay' * replay} (default: {default})",
    )


def chosen_carry(arguments: argparse.Namespace) -> str:
    """What is carried over; raises UnknownNameError."""
    from safetransfer.agent.settings import CARRY

    if arguments.carry not in CARRY:
        raise UnknownNameError("value of --carry", arguments.carry, CARRY)
    return arguments.carry


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Options of where experience is collected; none of them changes what is learned from it."""
    parser.add_argument(
        "--backend",
        metavar="{" + ",".join(BACKENDS) + "}",
        default="local",
        help="'local': collect and learn in one process; 'ray': actors collect in processes of "
        "their own, on this machine or on a Ray cluster (default: local)",
    )
    parser.add_argument(
        "--num-actors",
        metavar="INT",
        type=positive,
        help="with --backend ray: actors over which the hallways of train.num_envs are spread, a "
        "core each (default: all cores but one)",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="with --backend ray: HOST:PORT of a cluster of which this machine is a node, or "
        "'auto' for the one that runs here (default: $RAY_ADDRESS, else Ray is started on this "
        "machine, for it alone)",
    )


def chosen_backend(arguments: argparse.Namespace) -> Any:
    """`train`, on one machine or with the cluster that was chosen; UnknownNameError, SettingError.

    A run's command line need not be repeated for another backend: the same run goes on.
    """
    if arguments.backend not in BACKENDS:
        raise UnknownNameError("value of --backend", arguments.backend, BACKENDS)
    if arguments.backend == "local":
        for flag, value in (
            ("--num-actors", arguments.num_actors),
            ("--ray-address", arguments.ray_address),
        ):
            if value is not None:
                raise SettingError(f"{flag} needs --backend ray")
        from safetransfer.training.loop import train

        return train
    from safetransfer.training.cluster.connection import require_ray
    from safetransfer.training.cluster.train import Cluster, train_on_cluster

    require_ray()
    cluster = Cluster(arguments.num_actors, arguments.ray_address)
    return functools.partial(train_on_cluster, cluster=cluster)


def backend_for_stages(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[Any]:
    """`chosen_backend`'s `train` for several runs in a row. Ray is joined, or started, once for all
    of them, when this is entered; a run of fewer hallways than there are actors takes fewer."""
    train = chosen_backend(arguments)
    return contextlib.nullcontext(train) if arguments.backend == "local" else _shared(train)


@contextlib.contextmanager
def _shared(train: functools.partial[Any]) -> Iterator[Any]:
    from safetransfer.training.cluster.train import cluster_of

    cluster = dataclasses.replace(train.keywords["cluster"], fewer=True)
    with cluster_of(cluster):
        yield functools.partial(train, cluster=cluster)
