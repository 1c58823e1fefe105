"""What the frameworks' scripts share. Each script is a process of its own: `SCRIPT save|restore FOLDER`.

It runs one function after the other, in a folder of the function's own, and prints one JSON object with what each
returned, or the traceback with which it failed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Part = Callable[[Path], Any]


def digest_of(arrays: Iterable[Any]) -> str:
    """One checksum over the values of all arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def main(parts: Mapping[str, Mapping[str, Part]]) -> None:
    """`parts[name]["save"]` and `parts[name]["restore"]` are called with the folder `name`."""
    action, top = sys.argv[1], Path(sys.argv[2])
    results: dict[str, Any] = {}
    for name, functions in parts.items():
        folder = top / name
        folder.mkdir(exist_ok=True)
        try:
            results[name] = functions[action](folder)
        except Exception:  # noqa: BLE001 - the other parts go on; the test that looks at this one shows it
            results[name] = {"failure": traceback.format_exc()}
    print(json.dumps(results))
