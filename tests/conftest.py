"""Lets tests import the helpers of other tests by the names that mypy knows them by: `tests.train.small`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
