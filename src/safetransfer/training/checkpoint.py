"""Checkpoints: one file, written whole or not at all, read without running code from it.

The file is a ``torch.save`` archive of ``{"format", "version", "payload"}``. It is loaded with
``weights_only=True``, which admits tensors and plain data only, so everything else that a run has
to remember is put into those: numpy arrays and scalars of any numeric dtype become bytes with a
dtype and shape, and a ``np.random.Generator`` the state of its bit generator.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from safetransfer.errors import CheckpointError

FORMAT = "safetransfer"
VERSION = 1
FILE_NAME = "checkpoint.pt"

_TAG = "__safetransfer__"  # marks a dict that stands for something that is not plain data
_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def save(path: str | os.PathLike[str], payload: Mapping[str, Any]) -> None:
    """Writes ``payload`` to ``path``; at any instant the old or the new file stands there whole.

    Raises CheckpointError where the disk refuses (full, read-only, ...): what stood at ``path`` is
    then untouched. Raises TypeError for a value that ``load`` could not give back.
    """
    path = Path(path)
    document = {"format": FORMAT, "version": VERSION, "payload": _encode(payload, "payload")}
    # One fixed name: what a killed save left behind is overwritten by the next one.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        # torch turns a failed write into a RuntimeError; the cause is the OSError before it.
        if isinstance(error, (OSError, RuntimeError)):
            raise CheckpointError(_save_failure(path, error)) from error
        raise


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The payload of the checkpoint at ``path`` (a file, or a run directory), tensors on the CPU.

    Raises CheckpointError with the reason for a file that is missing, damaged, cut short, foreign,
    newer than this program, or that holds anything other than data. No code in the file is run.
    """
    path = locate(path)
    _check_archive(path)
    try:
        # Pages of the file, which the system can take back, and not a second copy of the replay:
        # what could be saved beside one must be possible to load. Windows would not let go of it.
        mapped = sys.platform != "win32"
        document = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it contains objects other than data, and loading them could run "
            f"code ({_first_sentence(error)})"
        ) from None
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    except Exception as error:  # torch raises many kinds for content that it cannot parse
        raise CheckpointError(f"{path} is damaged: {_first_sentence(error)}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a PyTorch file, but not a safetransfer checkpoint")
    version = document.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of version {version}; this program reads up to {VERSION}: "
            "install a newer safetransfer"
        )
    try:
        payload = _decode(document["payload"])
    except Exception as error:  # of numpy and torch, for bytes that are not what they say
        raise CheckpointError(f"{path} is damaged: its content does not fit ({error})") from None
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path} is damaged: it holds a {type(payload).__name__}, not a run")
    return payload


def locate(path: str | os.PathLike[str]) -> Path:
    """The checkpoint file that ``path`` means: itself, or the latest one of a run directory."""
    path = Path(path)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            # A transfer's agents are two levels below it, a seed's one.
            found = [*path.glob(f"*/{FILE_NAME}"), *path.glob(f"*/*/{FILE_NAME}")]
            below = ", ".join(str(file.parent) for file in sorted(found)[:3])
            hint = f". There are agents below: {below}{', ...' * (len(found) > 3)}" if found else ""
            raise CheckpointError(f"no checkpoint in {path}: it holds no {FILE_NAME}{hint}")
        return path / FILE_NAME
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: there is no such file")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: it is not a file")
    return path


# ---------------------------------------------------------------- the file


def _check_archive(path: Path) -> None:
    """Tells foreign, cut short and damaged files apart, which the errors of torch do not."""
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if not start:
            raise CheckpointError(f"{path} is not a checkpoint: the file is empty")
        if start != b"PK\x03\x04"[: len(start)]:
            raise CheckpointError(f"{path} is not a safetransfer checkpoint: it is no PyTorch file")
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                broken = archive.testzip()
        except zipfile.BadZipFile:
            raise CheckpointError(f"{path} is damaged: the file was cut short") from None
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from None
    except Exception as error:  # zipfile lets codec and struct errors of mangled entries through
        raise CheckpointError(f"{path} is damaged: {_first_sentence(error)}") from None
    if broken is not None:
        raise CheckpointError(f"{path} is damaged: the bytes of {broken} do not match their sum")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path} is not a safetransfer checkpoint: it is no PyTorch file")


def _sync_directory(directory: Path) -> None:
    """Makes a rename durable; file systems that cannot sync a directory are left as they are."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _save_failure(path: Path, error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) else _first_sentence(error)
    rest = (
        f"the last good checkpoint is {path}, which is whole"
        if path.exists()
        else "there is no earlier checkpoint"
    )
    return f"could not write the checkpoint {path}: {reason}; {rest}"


def _first_sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    for line in lines:  # torch puts advice before the point
        if "Unsupported" in line or "not an allowed global" in line or "GLOBAL" in line:
            return line.strip().split(". ")[0]
    return lines[0].split(". ")[0] if lines else type(error).__name__


# ---------------------------------------------------------------- the payload


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        # A subclass (np.float64 is a float) would be pickled as a class, not as data.
        if type(value) in (type(None), bool, int, float, str, bytes):
            return value
        if not isinstance(value, np.generic):
            raise TypeError(f"{where}: a checkpoint cannot hold a {type(value).__name__}")
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value.detach() if whole else value.detach().clone()  # a view would save all its base
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{where}: a checkpoint cannot hold an array of dtype {array.dtype}")
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return {
            _TAG: "array" if isinstance(value, np.ndarray) else "scalar",
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "data": torch.from_numpy(data if data.flags.writeable else data.copy()),
        }
    if isinstance(value, np.random.Generator):
        return {_TAG: "generator", "state": _encode(dict(value.bit_generator.state), where)}
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int, float, bool):
                raise TypeError(f"{where}: a checkpoint cannot hold the key {key!r}")
        return {key: _encode(item, f"{where}.{key}") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_encode(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(f"{where}: a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_decode, value))
    if not isinstance(value, dict):
        return value
    kind = value.get(_TAG)
    if kind in ("array", "scalar"):
        array = value["data"].numpy().view(np.dtype(value["dtype"])).reshape(value["shape"])
        return array if kind == "array" else array[()]
    if kind == "generator":
        state = _decode(value["state"])
        if state["bit_generator"] not in _BIT_GENERATORS:
            raise ValueError(f"unknown bit generator {state['bit_generator']!r}")
        bits = getattr(np.random, state["bit_generator"])()
        bits.state = state
        return np.random.Generator(bits)
    return {key: _decode(item) for key, item in value.items()}
