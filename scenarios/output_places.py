"""Whether a result can be written where an option says, found out before any work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from latency_models.errors import InputError


def check_output(option: str, path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, or that would replace another one unasked.

    Raises
    ------
    InputError
        Naming the option: the folder does not exist or cannot be written to, or the file exists and ``overwrite`` is
        false, or is a link, a device or a folder, which a result would take the place of.
    """
    check_output_folder(option, path.absolute().parent)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError(f"{option} {path} is no ordinary file; allowed: a new file, or one to replace")
    if path.exists() and not overwrite:
        raise InputError(f"{option} {path} exists already; choose another place, or give --overwrite to replace it")


def check_output_folder(option: str, folder: Path) -> None:
    """Refuse a folder that nothing can be written to.

    Raises
    ------
    InputError
        Naming the option.
    """
    if not folder.is_dir():
        raise InputError(f"{option}: the folder {folder} does not exist; create it first")
    try:
        # Permissions do not tell of read-only and virtual file systems; a file without a name does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{option}: nothing can be written to {folder} ({reason}); choose another place") from None
