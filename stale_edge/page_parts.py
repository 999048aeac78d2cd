"""Parts that all pages share: data for scripts, and the button that changes the look."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

_ESCAPED: Final = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


def script_json(value: Any) -> str:
    """Write JSON that cannot end the script it stands in, or begin a comment.

    Args:
        value: JSON values; numbers must be finite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPED)


def theme_script() -> str:
    """Read the script of the button `#theme`, which changes between the light and the dark look."""
    return resources.files("stale_edge").joinpath("theme.js").read_text(encoding="utf-8")
