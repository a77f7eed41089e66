"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_mocap() -> Path:
    """A folder of real CMU clips beside the checkout; the tests that need it skip without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "cmu_mocap"
    if not (folder / "index.csv").is_file():
        pytest.skip("needs real clips in ../shared/cmu_mocap, which are not here")
    return folder
