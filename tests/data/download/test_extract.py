"""Archives are extracted to the last byte, and nothing is written outside their folder."""

import errno
import random
import stat
import tarfile
import zipfile

import pytest

from aloe_lightning.data.download.fetch import ArchiveError, _extract
from aloe_lightning.errors import UserError
from data.archives import contents, write_tar, write_zip
from data.server import fail_writes

FILES = {"set/a/1.png": b"one" * 500, "set/b/2.png": b"", "set/b/c/3.txt": bytes(range(256)) * 9}
TARS = ("set.tar", "set.tar.gz", "set.tgz")
DEVICES = {"pipe": tarfile.FIFOTYPE, "character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE}


def write(path, files):
    (write_zip if path.suffix == ".zip" else write_tar)(path, files)
    return path


def is_answered(archive, told):
    """Refused in words, and nothing is outside the folder that was to be written."""
    around, into = archive.parent.parent, archive.parent / "into"
    before = sorted(around.rglob("*"))
    with pytest.raises(ArchiveError, match=told):
        _extract(archive, into)
    assert [path for path in sorted(around.rglob("*")) if into not in (path, *path.parents)] == before


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("name", ["set.zip", *TARS])
def test_every_byte_comes_out(place, name):
    _extract(write(place / name, FILES), place / "into")
    assert contents(place / "into") == FILES


@pytest.mark.parametrize("evil", ["../evil", "set/../../evil"])
def test_ways_out_of_the_folder_are_refused_or_omitted(place, evil):
    files = {"good.png": b"good", evil: b"evil"}
    is_answered(write(place / "set.tar", files), r"^set.tar is refused \('.*\.\.[^']*' would be extracted to")
    _extract(write(place / "set.zip", files), place / "zip")
    assert contents(place / "zip") == {"good.png": b"good"}


def test_an_absolute_path_writes_nothing_there(place):
    target = place.parent / "evil"
    for name in ("set.zip", "set.tar"):
        _extract(write(place / name, {"good.png": b"good", str(target): b"evil"}), place / f"into {name}")
        assert not target.exists()


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_are_refused(place, kind):
    with tarfile.open(place / "set.tar", "w") as archive:
        info = tarfile.TarInfo("strange")
        info.type = DEVICES[kind]
        archive.addfile(info)
    is_answered(place / "set.tar", "^set.tar is refused .'strange' is a special file")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_out_of_the_folder_are_refused(place, kind):
    with tarfile.open(place / "set.tar", "w") as archive:
        info = tarfile.TarInfo("strange")
        info.type, info.linkname = kind, "../../evil"
        archive.addfile(info)
    is_answered(place / "set.tar", "^set.tar is refused .'strange' would link to")


def test_a_link_in_a_zip_becomes_a_file(place):
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("strange")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")
    _extract(place / "set.zip", place / "into")
    assert not (place / "into" / "strange").is_symlink()


@pytest.mark.parametrize("name", ["set.zip", *TARS])
@pytest.mark.parametrize("kept", [0, 100, 1000, 6000, 9000, 12_000, 17_000])
def test_a_cut_archive_is_broken(place, name, kept):
    archive = write(place / name, {f"{index}.png": random.Random(index).randbytes(2000) for index in range(9)})
    archive.write_bytes(archive.read_bytes()[:kept])
    is_answered(archive, rf"^{name} is truncated or corrupt \(.+\)$")


@pytest.mark.parametrize("name", ["set.zip", *TARS])
def test_another_format_under_the_name_is_broken(place, name):
    (place / name).write_bytes(b"<html>Please log in</html>" * 50)
    is_answered(place / name, "is truncated or corrupt")


def test_a_zip_with_another_size_or_content_than_declared_is_broken(place):
    archive = write(place / "set.zip", {"a": bytes(60_000)})
    archive.write_bytes(archive.read_bytes().replace((60_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    is_answered(archive, "^set.zip is truncated or corrupt .*Bad CRC-32")


def test_a_locked_zip_is_broken(place):
    archive = write(place / "set.zip", {"a": b"content"})
    content = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    archive.write_bytes(content)
    is_answered(archive, "password required")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_a_fault_of_the_disk_is_passed_on(place, name, number, monkeypatch):
    archive = write(place / name, FILES)
    fail_writes(monkeypatch, "3.txt", number)
    with pytest.raises(OSError, match="on purpose") as told:
        _extract(archive, place / "into")
    assert (told.value.errno, isinstance(told.value, UserError)) == (number, False)
