"""Which packages know of which: each only of those before it, so that each can be read alone."""

import ast
from pathlib import Path

import safetransfer

ROOT = Path(safetransfer.__file__).parent
ORDER = (
    "errors", "headless", "settings_io", "statistics", "envs", "agent", "replay", "training",
    "report", "experiments", "benchmarks", "cli",
)  # fmt: skip


def imported(tree: ast.AST) -> set[str]:
    """First names below `safetransfer` that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            first, _, rest = node.module.partition(".")
            if first == "safetransfer":
                found |= {rest.partition(".")[0]} if rest else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            parts = [a.name.split(".") for a in node.names]
            found |= {p[1] for p in parts if p[0] == "safetransfer" and len(p) > 1}
    return found


def test_packages_know_only_of_those_before_them():
    seen = set()
    for path in sorted(ROOT.rglob("*.py")):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own not in ORDER:
            continue
        for name in imported(ast.parse(path.read_text())) & set(ORDER) - {own}:
            assert ORDER.index(name) < ORDER.index(own), f"{path.relative_to(ROOT)}: {name}"
            seen.add((own, name))
    assert ("training", "agent") in seen and ("cli", "experiments") in seen


def test_relative_imports_are_not_hidden_from_it():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path
