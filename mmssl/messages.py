"""What somebody at a terminal reads, and can type again."""

from __future__ import annotations

import shlex
import sys
from typing import Any


def one_line(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the place in the code; takes the place of `warnings.showwarning`."""
    print(f"warning: {message}", file=sys.stderr)


def setting(key: str, value: Any) -> str:
    """``key=value`` as a shell and Hydra's command line read it."""
    return shlex.quote(f"{key}={_value(value)}")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{_value(key)}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_value(item) for item in value) + "]"
    text = str(value)
    plain = isinstance(value, int | float) or all(c.isalnum() or c in "_-./:" for c in text)
    return text if plain else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
