"""Pieces of HTML for the report; everything that comes from a file is escaped."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

_MIME = {".mp4": "video/mp4", ".gif": "image/gif", ".jpg": "image/jpeg", ".png": "image/png"}

# Far enough into a film to see where it takes place.
_POSTER_FRAME = 20

MISSING = '<span class="missing">not run yet</span>'
NOT_PLANNED = '<span class="missing">not run</span>'


def number(value: float, like: float | None = None) -> str:
    """A figure to read: 1,234, 56.7, 8.90. `like` sets the precision (ends of an interval)."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "–∞" if value < 0 else "–"
    size = abs(value if like is None else like)
    decimals = 0 if size >= 100 or (value == 0 and size == 0) else 1 if size >= 10 else 2
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if not any(c in text for c in "123456789") else text


def times(ratio: float) -> str:
    """A ratio to read: 1.4, 23."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def details(title: str, body: str, printed: bool = True) -> str:
    """A part that opens on a click; on paper it is open, unless it is not `printed`."""
    kind = "" if printed else ' class="unprinted"'
    return f"<details{kind}><summary>{escape(title)}</summary>{body}</details>"


def table(header: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "plain") -> str:
    """A plain table; header and cells are HTML already."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def json_block(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def film(path: Path, caption: str) -> str:
    """A film as part of the page itself; the caption is plain text."""
    data = _data_uri(path.read_bytes(), _MIME[path.suffix])
    name = escape(caption)
    if path.suffix == ".gif":
        shown = f'<img src="{data}" alt="{name}">'
    else:
        poster = _poster(path)
        cover = f' poster="{poster}"' if poster else ""
        how = f'controls loop muted playsinline preload="metadata"{cover}'
        shown = f'<video {how} src="{data}"></video>'
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def _data_uri(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _poster(path: Path) -> str | None:
    """A frame from early in the film, or None where it cannot be decoded."""
    import imageio_ffmpeg
    from PIL import Image

    try:
        frames = imageio_ffmpeg.read_frames(str(path))
        size = next(frames)["size"]
        picture = next(itertools.islice(frames, _POSTER_FRAME, None))
        frames.close()
    except (OSError, RuntimeError, StopIteration):
        return None
    image = Image.frombytes("RGB", size, picture)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return _data_uri(buffer.getvalue(), "image/jpeg")
