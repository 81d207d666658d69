"""How warnings look to somebody at a terminal."""

from __future__ import annotations

import sys
from typing import Any


def one_line(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the place in the code; takes the place of `warnings.showwarning`."""
    print(f"warning: {message}", file=sys.stderr)
