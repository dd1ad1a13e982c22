"""What a folder of generated files says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.errors import DataError

SYNTHETIC = "synthetic.json"
"""The file beside generated ones that says what they are."""
NUMBERS = ("rows", "world_rows", "seed")
"""What generated files depend on."""


def read_synthetic(folder: Path) -> dict[str, Any] | None:
    """Return what is known of generated files in a folder, or None where the files are not said to be generated.

    Raises:
        DataError: `synthetic.json` cannot be read, or says that the files are not whole.
    """
    try:
        about: dict[str, Any] = json.loads((folder / SYNTHETIC).read_text(encoding="utf-8"))
        if "unfinished" in about:
            raise ValueError("unfinished")
        numbers = {"world_rows": about["rows"]} | {name: about[name] for name in NUMBERS if name in about}
        return {**about, "dataset": str(about["dataset"]), **{name: int(numbers[name]) for name in NUMBERS}}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / SYNTHETIC}: cannot be used ({error}); synthesize the files again") from None
