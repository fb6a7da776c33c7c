"""What the tests share: the mark of slow ones, and fixtures.

pytest -m "not slow" covers losses, views, parameters, statistics, checkpoints and the like in two minutes.
"""

import pytest
import torch

from stages.training.compilation import can_compile


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "slow: runs stages, DVC, a compiler or a browser, or takes longer than a few seconds"
    )


@pytest.fixture
def compiler():
    """Skip the test where no compiler works, and begin without anything compiled before."""
    if not can_compile(torch.device("cpu"), "this test"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    torch.compiler.reset()
