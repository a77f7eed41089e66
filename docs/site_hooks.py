"""Hooks of the documentation site: formulas without scripts, links that leave the pages.

The pages are read in two places: as files of the repository, where links lead to sources and
formulas are set by the viewer, and as a site, which needs neither network nor scripts.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

_log = logging.getLogger("mkdocs.hooks.site")

_CODE = re.compile(r"(^```.*?^```|`+[^`\n]+`+)", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"\$([^$\n]+?)\$")
_BELOW = re.compile(r"<msub>(<mo>(?:min|max)</mo>.*?)</msub>")
"""In a formula of its own line, what is optimised over stands below."""
_OUTWARD = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Formulas as MathML, links to files outside the pages as their text."""
    source = Path(page.file.abs_src_path)
    parts = _CODE.split(_unlinked(markdown, source))
    return "".join(part if k % 2 else _with_formulas(part) for k, part in enumerate(parts))


def _with_formulas(text: str) -> str:
    text = _BLOCK.sub(lambda m: _display(m[1]), text)
    return _INLINE.sub(lambda m: convert(m[1]), text)


def _display(formula: str) -> str:
    return _BELOW.sub(r"<munder>\1</munder>", convert(formula, display="block"))


def _unlinked(markdown: str, source: Path) -> str:
    """A link to a source or to kept results keeps its text; one to nothing is a warning."""

    def plain(match: re.Match[str]) -> str:
        if not (source.parent / match[2]).exists():
            _log.warning("%s: a link to %s, which does not exist", source.name, match[2])
        return match[1]

    return _OUTWARD.sub(plain, markdown)
