"""Files of the paper's public repository: read locally if present, else fetched and verified."""

from __future__ import annotations

import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.request import urlopen

from mpnn_arch.checks import check_path
from mpnn_arch.errors import InputError
from mpnn_arch.io.cache_folder import user_cache
from mpnn_arch.io.files import write_error, write_whole

T = TypeVar("T")

# One commit of facebookresearch/graph2nn (MIT license), so that the files never change.
REPOSITORY = (
    "https://raw.githubusercontent.com/facebookresearch/graph2nn/"
    "b6a67ccca99737d31b45aa4c938f6b7998050cb3/"
)
ENVIRONMENT = "MPNN_ARCH_DATA"


def data_folders(root: str | os.PathLike[str] | None) -> list[Path]:
    """Folders to search: ``root`` alone if given, else $MPNN_ARCH_DATA, then the cache."""
    if root is not None:
        return [check_path(root)]
    named, cache = os.environ.get(ENVIRONMENT), user_cache()
    return ([Path(named)] if named else []) + ([cache] if cache else [])


def find(names: list[str], root: str | Path | None) -> Path | None:
    """The first of these relative paths that exists in a data folder; None if there is none."""
    for folder in data_folders(root):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def obtain(
    names: list[str],
    root: str | Path | None,
    read: Callable[[Path], T],
    *,
    remote: str,
    store_as: str,
    download: bool,
) -> T:
    """A file of the repository, from a local folder or else fetched into one.

    Args:
        names: relative paths under which the file may be in a folder.
        root: the folder; None: $MPNN_ARCH_DATA, then the cache.
        read: reads a file and raises InputError if its checksum is wrong.
        remote: path within the repository.
        store_as: relative path of the fetched file, in ``root`` or in the cache.
        download: whether to fetch it.

    Raises:
        InputError: no file in the folders and none to be fetched, or as :func:`fetch`.
    """
    found = find(names, root)
    if found is not None:
        return read(found)
    folders = data_folders(root)
    to = user_cache() if root is None else Path(root)
    if not download or to is None:
        where = f" in {', '.join(map(str, folders))}" if folders else " here"
        fix = "pass download=True" if to is not None else "pass its folder as root"
        raise InputError(f"{names[0]} is not{where}; put it there, or {fix}")
    return fetch(remote, to / store_as, read)


def fetch(remote: str, to: Path, read: Callable[[Path], T]) -> T:
    """Fetch ``remote`` from the repository, read and verify it, then store it at ``to``.

    Args:
        remote: path within the repository.
        to: where to store the file.
        read: reads the fetched file and raises InputError if its checksum is wrong.

    Raises:
        InputError: no connection, an incomplete download, a file that cannot be written, or an
            error that ``read`` raises; no file is left behind.
    """
    url = REPOSITORY + remote
    try:
        with urlopen(url, timeout=30) as response:
            expected = response.headers.get("Content-Length")
            body = response.read()
    except (URLError, HTTPException, OSError) as error:
        raise InputError(
            f"{url} could not be fetched ({error}); connect to the network, or put the file into "
            f"a folder and pass that folder as root or in {ENVIRONMENT}"
        ) from error
    if expected is not None and int(expected) != len(body):
        raise InputError(
            f"the download of {url} stopped after {len(body)} of {expected} bytes; try again"
        )
    found: list[T] = []

    def write(temporary: Path) -> None:
        temporary.write_bytes(body)
        found.append(read(temporary))

    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(to, error) from error
    write_whole(to, write)
    return found[0]
