"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from simulator.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_writable(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Check, before any work is done, that a file can be written.

    Args:
        path: The file to write later.
        suffixes: Endings that its name may have; any when empty.

    Raises:
        InputError: The name ends otherwise, the folder does not exist or cannot be written, or the path is a
            folder itself.
    """
    folder = path.parent
    if suffixes and not path.name.endswith(tuple(suffixes)):
        raise InputError(f"{path}: the name of this output file must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected the name of a file to write")
    if not folder.exists():
        raise InputError(f"{path}: no folder {str(folder)!r}; create it first")
    if not folder.is_dir():
        raise InputError(f"{path}: {str(folder)!r} is not a folder")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not (_is_special(path) or os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(f"{path}: no permission to write here")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside ``path`` and rename it, so that nobody sees half of it.

    A device or a pipe (``/dev/stdout``) is written to as it is.

    Raises:
        InputError: The operating system refused.
    """
    try:
        if _is_special(path):
            path.write_bytes(content)
            return
        target = path.resolve()
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
