"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# The tests' networks are small: more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_mocap() -> Path:
    """A folder of real CMU clips with its index; the tests that need it skip without."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cmu_mocap"
    folder = Path(os.environ.get("SAFETRANSFER_MOCAP") or beside)
    if not (folder / "index.csv").is_file():
        pytest.skip(
            "needs real clips with an index.csv, in ../shared/cmu_mocap or SAFETRANSFER_MOCAP"
        )
    return folder


@pytest.fixture
def folders_of_clips(tmp_path: Path) -> None:
    """In tmp_path: clips/, moved/ with the same clip, and others/ with another."""
    from test_mocap import bvh_text

    for folder, frames in (("clips", 125), ("moved", 125), ("others", 130)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.bvh").write_text(bvh_text(frames, False))
