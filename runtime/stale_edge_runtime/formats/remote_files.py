"""Files in object storage and on servers, by URL: fetched for as long as they are read."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stale_edge_runtime.errors import InputMissingError, UnavailableError, missing_extra

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_url(text: str) -> bool:
    """Tell whether a text names a file by URL, as in `s3://bucket/a.mp4`."""
    return "://" in text


def url_name(url: str) -> str:
    """Give the name of the file that a URL names.

    Args:
        url: The URL; chained ones of `fsspec` name the file first, as in `zip://a.mp4::s3://bucket/all.zip`.
    """
    return PurePosixPath(url.split("::", maxsplit=1)[0].split("?", maxsplit=1)[0]).name


@contextlib.contextmanager
def fetched(url: str, beside: str | None = None) -> Iterator[Path]:
    """Fetch a file; the copy lasts as long as the block.

    Args:
        url: The URL. Credentials are those of its kind of storage, as its own programs find them.
        beside: Name of a second file of the same folder to fetch where it exists.

    Yields:
        The copy, under the name that it has there.

    Raises:
        InputMissingError: There is no such file, or it cannot be had.
        UnavailableError: The packages for this kind of URL are not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise missing_extra("fsspec", "corpus", url) from error
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as folder:
        target = Path(folder) / url_name(url)
        try:
            storage, path = fsspec.url_to_fs(url)
            storage.get_file(path, str(target))
            record = None if beside is None else str(PurePosixPath(path).with_name(beside))
            if record is not None and storage.exists(record):
                storage.get_file(record, str(target.with_name(str(beside))))
        except FileNotFoundError as error:
            raise InputMissingError(url, "no such file", "check the URL") from error
        except ImportError as error:
            raise UnavailableError(url, f"needs another package ({error})", "install it") from error
        except Exception as error:  # each kind of storage has errors of its own
            raise InputMissingError(
                url, f"cannot be fetched ({error})", "check the URL and the access to it"
            ) from error
        yield target
