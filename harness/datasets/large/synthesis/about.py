"""What a folder of generated files says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import DataError

SYNTHETIC = "synthetic.json"
"""The file beside generated ones that says what they are."""


def read_synthetic(folder: Path) -> dict[str, Any] | None:
    """Return what is known of generated files in a folder, or None where the files are not said to be generated.

    Raises:
        DataError: `synthetic.json` cannot be read.
    """
    try:
        about: dict[str, Any] = json.loads((folder / SYNTHETIC).read_text(encoding="utf-8"))
        return {**about, "rows": int(about["rows"]), "seed": int(about["seed"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / SYNTHETIC}: cannot be read ({error}); synthesize the files again") from None
