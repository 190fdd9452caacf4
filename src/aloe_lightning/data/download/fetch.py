"""Download, verify and extract a data set, each part moved to its place when it is complete. Imports no torch."""

import errno
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from aloe_lightning.data.catalogue.card import Archive, DatasetCard
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.files import file_lock

TIMEOUT = 30.0  # seconds without an answer of the host
MB = 10**6
# System errors that an invalid archive causes; any other is an error of the disk.
ERRORS_OF_ARCHIVE = {None, errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}


class ArchiveError(UserError):
    """A download or an archive cannot be used: it is incomplete, altered, corrupt or unsafe."""


def prepare(card: DatasetCard, root: Path) -> list[str]:
    """Download, verify and extract a data set in its official layout; existing files are never changed.

    After any error nothing incomplete is at a final place, and a further call starts from the beginning.

    Args:
        card: the set.
        root: the data root; created if it does not exist.

    Returns:
        The steps done, one line each.

    Raises:
        UserError: if the set has to be obtained manually, other files are in its way, the root cannot be written, or
            the disk has no space.
        ArchiveError: if a download fails, or a file is not the official one, cannot be extracted or is unsafe.
    """
    root = root.expanduser().absolute()
    nothing_to_do = [f"{card.title} was there already, in {root}"]
    if card.layout(root):
        return nothing_to_do
    if not card.archives:
        raise UserError(f"{card.title} cannot be downloaded: {card.manual_instructions}")
    existing = [path for archive in card.archives for path in archive.provides if os.path.lexists(root / path)]
    again = f"run {card.command(root)} again"
    try:
        with _work_folder(card, root) as work:
            if card.layout(root):  # by the job that this one waited for
                return nothing_to_do
            steps = [line for archive in card.archives for line in _provide(card.title, archive, root, work, again)]
    except OSError as error:  # temporary files are removed by now, so that the free space is the available one
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise UserError(f"{card.title} cannot be written to {root} ({error}); correct that and {again}") from error
        files = ", ".join(archive.file for archive in card.archives)
        folder = next(path for path in (root, *root.parents) if path.exists())
        free = f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
        full = f"{card.title}: no space to download and extract {files}, {free}; make room and {again}"
        raise UserError(full) from error
    if not card.layout(root):
        raise UserError(
            f"{card.title} is incomplete in {root}, and existing files are never overwritten: "
            f"move {', '.join(existing)} away and {again}"
        )
    return steps


@contextmanager
def _work_folder(card: DatasetCard, root: Path) -> Iterator[Path]:
    """Yield an empty folder for temporary files on the root's disk, to one job at a time; it is removed at the end."""
    work = root / ".downloads" / card.name
    work.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(work.with_name(f"{card.name}.lock"), f"downloading {card.title} into {root}"):
        try:
            shutil.rmtree(work, ignore_errors=True)  # of a job that was killed
            work.mkdir()
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _provide(title: str, archive: Archive, root: Path, work: Path, again: str) -> Iterator[str]:
    """Download, verify and extract one archive unless everything that it provides exists; yield the steps done."""
    missing = [path for path in archive.provides if not os.path.lexists(root / path)]
    if not missing:
        return
    manual_copy, extracted = root / archive.file, work / f"from {archive.file}"
    has_copy = manual_copy.is_file()
    file, origin = (manual_copy, str(manual_copy)) if has_copy else (work / archive.file, archive.url)
    try:
        if not has_copy:
            _download(archive, file)
        _verify(file, archive.md5, origin)
        yield f"{'used' if has_copy else 'downloaded'} {origin}"
        if archive.packed:
            _extract(file, extracted)
        else:
            extracted.mkdir()
            if has_copy:
                shutil.copyfile(file, extracted / archive.file)
            else:
                file.rename(extracted / archive.file)
        parts = {path: extracted / PurePosixPath(path).relative_to(archive.into) for path in missing}
        lacking = [path for path, part in parts.items() if not part.exists()]
        if lacking:
            raise ArchiveError(f"{origin} does not contain {', '.join(lacking)}")
    except ArchiveError as error:
        by_hand = f"download {archive.file} from {archive.url} by other means, put it at {manual_copy} and {again}"
        raise ArchiveError(f"{title}: {error}; {by_hand}") from error
    for path, part in parts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        part.rename(root / path)
        yield f"wrote {root / path}"


def _verify(file: Path, md5: str, origin: str) -> None:
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 != actual:
        size = file.stat().st_size
        raise ArchiveError(f"{origin} is not the official file: {size:,} bytes with MD5 {actual}, expected {md5}")


def _extract(file: Path, into: Path) -> None:
    """Extract a verified `.zip`, `.tar`, `.tar.gz` or `.tgz`; nothing is written outside the folder."""
    try:
        # For a .zip there is no filter: shutil omits absolute paths and `..`, and makes no links.
        shutil.unpack_archive(file, into, filter=None if file.suffix == ".zip" else "data")
    except Exception as error:  # a damaged archive raises nearly anything
        if isinstance(error, OSError) and error.errno not in ERRORS_OF_ARCHIVE:
            raise
        fault = "is refused" if isinstance(error, tarfile.FilterError) else "is truncated or corrupt"
        raise ArchiveError(f"{file.name} {fault} ({error or type(error).__name__})") from error


def _download(archive: Archive, file: Path) -> None:
    """Download an archive; after a failed connection, try once more from the start."""
    import requests
    from urllib3.exceptions import HTTPError as ConnectionLost

    for last in (False, True):
        try:
            headers = {"Accept-Encoding": "identity"}
            with requests.get(archive.url, stream=True, timeout=TIMEOUT, headers=headers) as response:
                response.raise_for_status()
                # Never decoded: some hosts label a .tar.gz as compressed text, and its sum would not match.
                blocks = response.raw.stream(MB, decode_content=False)
                if size := int(response.headers.get("Content-Length", 0)):
                    blocks = track(blocks, -(-size // MB), f"downloading {archive.file}", unit="MB")
                with file.open("wb") as stream:
                    stream.writelines(blocks)
            return
        except (requests.RequestException, ConnectionLost) as error:
            if last or isinstance(error, requests.HTTPError):
                raise ArchiveError(f"{archive.url} cannot be downloaded ({_first_message(error)})") from error


def _first_message(error: BaseException) -> str:
    """Return the message of the first error of a chain, such as `Connection refused`; later ones only wrap it."""
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__
