"""Fetching clips of the CMU motion-capture database: checked, resumed, and never half there."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetransfer.envs.mocap.checksums import CMU_SHA256
from safetransfer.errors import ClipError, SettingError

BASE_URL = "http://mocap.cs.cmu.edu/subjects"
ACKNOWLEDGEMENT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created "
    "with funding from NSF EIA-0196217."
)
TERMS = (
    "These files are clips of the CMU Graphics Lab Motion Capture Database. They are free for "
    "research and may be included in products, but may not be resold directly, even in converted "
    f"form. The database asks for this acknowledgement: {ACKNOWLEDGEMENT}"
)
# Trials whose content is known beforehand: people who walk, run, dance, jump, sit, strike and wash.
DEFAULT_TRIALS = tuple(
    sorted(
        name.removesuffix(".amc")
        for name in CMU_SHA256
        if name.endswith(".amc") and f"{name.partition('_')[0]}.asf" in CMU_SHA256
    )
)

MANIFEST = "sha256.json"
_CHUNK = 1 << 16
_LARGEST = 1 << 28

Progress = Callable[[str, int, "int | None"], None]
"""Called with a file's name, the bytes that are here, and how many there will be, if known."""


def download(
    destination: str | Path,
    trials: Iterable[str] = DEFAULT_TRIALS,
    *,
    base_url: str = BASE_URL,
    verify: bool = True,
    retries: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Fetch `trials` such as "02_01", and their skeletons, into `destination`; returns all their
    files.

    A file that is here and unchanged since it came is not fetched again; one that was cut off goes
    on from where it was (where the server can). Files in `CMU_SHA256` must have the content listed
    there, unless `verify` is off. ClipError says what could not be had and why; what did come is
    kept.

    `timeout` and `pause` (the wait before the second try, doubled for each further one) are
    seconds.
    """
    say = say or (lambda text: print(text, file=sys.stderr))
    if not base_url.startswith(("http://", "https://")):
        raise SettingError(f"expected a base URL with http:// or https://, found {base_url!r}")
    folder = Path(destination).expanduser()
    names = _files(trials)
    say(TERMS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.txt").write_text(TERMS + "\n", encoding="utf-8")
    except OSError as error:
        raise ClipError(f"{folder}: cannot be written: {error.strerror or error}") from None

    manifest = _Manifest(folder)
    paths = []
    for name in names:
        subject = re.split(r"[_.]", name)[0]
        path = folder / subject / name
        paths.append(path)
        expected = CMU_SHA256.get(name) if verify else None
        if manifest.holds(path, expected):
            continue
        url = f"{base_url.rstrip('/')}/{subject}/{name}"
        fetch = _Fetch(url, path, retries, timeout, pause, progress)
        try:
            path.parent.mkdir(exist_ok=True)
            fetch.run(expected)
            manifest.add(path)
        except OSError as error:
            raise ClipError(f"{path}: cannot be written: {error.strerror or error}") from None
    return paths


def _files(trials: Iterable[str]) -> list[str]:
    names: dict[str, None] = {}
    for trial in trials:
        if not re.fullmatch(r"\d{2,3}_\d{2,3}", trial):
            raise SettingError(f"expected a trial such as '02_01' (subject_trial), found {trial!r}")
        names[f"{trial.partition('_')[0]}.asf"] = None
        names[f"{trial}.amc"] = None
    if not names:
        raise SettingError("expected at least one trial, such as '02_01'")
    return list(names)


class _Manifest:
    """What came, by SHA-256, so that a later run knows without the net that it is whole."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / MANIFEST
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self.known: dict[str, str] = known if isinstance(known, dict) else {}

    def holds(self, path: Path, expected: str | None) -> bool:
        """Whether a file is as it came, and is what it has to be (None: whatever came)."""
        known = self.known.get(path.relative_to(self.folder).as_posix())
        try:
            content = path.read_bytes()
        except OSError:
            return False
        if expected is not None and _known_by(content) != expected:
            return False
        return _sha256(content) == known

    def add(self, path: Path) -> None:
        self.known[path.relative_to(self.folder).as_posix()] = _sha256(path.read_bytes())
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.known, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(temporary, self.path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _known_by(content: bytes) -> str:
    """What `CMU_SHA256` lists: servers differ in how lines end."""
    return _sha256(content.replace(b"\r", b""))


class _CutOff(Exception):
    """The connection ended before the file did."""


class _Fetch:
    """One file: tried again and again, each time from where the last try ended."""

    def __init__(
        self,
        url: str,
        path: Path,
        retries: int,
        timeout: float,
        pause: float,
        progress: Progress | None,
    ):
        self.url, self.path = url, path
        self.part = path.with_name(path.name + ".part")
        self.retries, self.timeout, self.pause, self.progress = retries, timeout, pause, progress

    def run(self, expected: str | None) -> None:
        resumed = self.part.exists()
        self.get()
        if expected is not None and not self.matches(expected) and resumed:
            # The part may have been of something else: once more, from the start.
            self.part.unlink()
            self.get()
        if expected is not None and not self.matches(expected):
            self.part.unlink()
            raise ClipError(
                f"{self.url}: not the file that is known by this name (its SHA-256 differs). The "
                "server may have a changed copy; to take it as it is, turn verification off"
            )
        os.replace(self.part, self.path)

    def matches(self, expected: str) -> bool:
        return _known_by(self.part.read_bytes()) == expected

    def get(self) -> None:
        reason: object = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                self.attempt()
                return
            except urllib.error.HTTPError as error:
                if error.code == 416:  # the part is longer than the file: it is of something else
                    self.part.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    reason = f"the server answers {error.code} {error.reason}"
                    raise ClipError(f"{self.url}: {reason}") from None
                reason = f"the server answers {error.code} {error.reason}"
            except urllib.error.URLError as error:
                reason = error.reason
            except (TimeoutError, ConnectionError, http.client.HTTPException, _CutOff) as error:
                reason = str(error) or type(error).__name__
        raise ClipError(
            f"{self.url}: gave up after {self.retries + 1} tries ({reason}). What came so far is "
            "kept: the same command goes on from there"
        )

    def attempt(self) -> None:
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"User-Agent": "safetransfer", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        request = urllib.request.Request(self.url, headers=headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            span = answer.headers.get("Content-Range") or ""
            goes_on = answer.status == 206 and span.startswith(f"bytes {have}-")
            if have and not goes_on:
                have = 0
            length = answer.headers.get("Content-Length") or ""
            total = have + int(length[:18]) if length.isdigit() else None
            with self.part.open("ab" if goes_on else "wb") as file:
                while chunk := _read(answer):
                    file.write(chunk)
                    have += len(chunk)
                    if have > _LARGEST:
                        raise ClipError(f"{self.url}: too large to be a clip")
                    if self.progress is not None:
                        self.progress(self.path.name, have, total)
        if total is not None and have != total:
            raise _CutOff(f"cut off after {have} of {total} bytes")


def _read(answer: Any) -> bytes:
    try:
        chunk: bytes = answer.read(_CHUNK)
    except (TimeoutError, ConnectionError, http.client.HTTPException):
        raise
    except OSError as error:  # of TLS, for instance: of the net, and not of the disk
        raise ConnectionError(str(error)) from error
    return chunk
