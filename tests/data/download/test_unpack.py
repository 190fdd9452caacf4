"""Archives are unpacked to the last byte, and what is unsafe or broken leaves nothing behind."""

import errno
import io
import lzma
import random
import re
import shutil
import stat
import tarfile
import zipfile
from collections import Counter

import pytest

from aloe_lightning.data.download import unpack as unpacking
from aloe_lightning.data.download.unpack import ArchiveError, unpack
from aloe_lightning.errors import UserError
from data.archives import contents, write_tar, write_zip
from data.server import fail_writes

FILES = {"set/a/1.png": b"one" * 500, "set/b/2.png": b"", "set/b/c/3.txt": bytes(range(256)) * 9}
TARS = ("set.tar", "set.tar.gz", "set.tgz")
LINKS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE}
DEVICES = {"pipe": tarfile.FIFOTYPE, "character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE}
OUTSIDE = [
    "../evil",
    "set/../../evil",
    "{top}/evil",
    "//host/evil",
    "C:evil",
    "C:/evil",
    "set\\..\\evil",
    "\\\\host\\a\\b",
]


def write(path, files):
    (write_zip if path.suffix == ".zip" else write_tar)(path, files)
    return path


def add_to_tar(path, name, kind, target="set/a/1.png"):
    files = {"good.png": b"good"}
    with tarfile.open(path, "w") as archive:
        for file, content in files.items():
            info = tarfile.TarInfo(file)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


REFUSED, BROKEN = " is refused: ", r" is truncated or corrupt \("


def refuses(archive, kind, told, limit=10**6):
    """Refused in words, and the folder of the archive and the one above hold what they held."""
    around = archive.parent.parent
    before = sorted(around.rglob("*"))
    with pytest.raises(ArchiveError, match=told) as error:
        unpack(archive, archive.parent / "into", limit)
    assert re.match(re.escape(archive.name) + kind, str(error.value))
    assert sorted(around.rglob("*")) == before


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.mark.parametrize("name", ["set.zip", *TARS])
def test_every_byte_comes_out(place, name):
    unpack(write(place / name, FILES), place / "into", limit=sum(map(len, FILES.values())))
    assert contents(place / "into") == FILES


@pytest.mark.parametrize("name", ["set.zip", *TARS])
def test_nothing_becomes_executable(place, name):
    unpack(write(place / name, FILES), place / "into", 10**6)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o111 for path in (place / "into").rglob("*.*")} == {0}


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_what_macos_adds_is_left_out(place, name):
    junk = {"__MACOSX/set/a/1.png": b"junk", "set/a/._1.png": b"junk"}
    unpack(write(place / name, FILES | junk), place / "into", 10**6)
    assert contents(place / "into") == FILES


@pytest.mark.parametrize("name", ["set.zip", "set.tar"])
@pytest.mark.parametrize("evil", OUTSIDE)
def test_ways_out_of_the_folder_are_refused(place, name, evil):
    archive = write(place / name, {"good.png": b"good", evil.format(top=place.parent): b"evil"})
    refuses(archive, REFUSED, rf"^{name} is refused: it would write to .*outside its folder$")


def test_a_zero_byte_does_not_hide_the_rest_of_a_name(place):
    archive = write(place / "set.zip", {"good.png": b"good", "1.png~/../../evil": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"1.png~", b"1.png\0"))
    refuses(archive, REFUSED, r"it would write to '1\.png\\x00/")


@pytest.mark.parametrize("kind", LINKS | DEVICES)
def test_links_and_devices_in_a_tar_are_refused(place, kind):
    archive = add_to_tar(place / "set.tar", "strange", (LINKS | DEVICES)[kind], target="good.png")
    refuses(archive, REFUSED, r"^set.tar is refused: 'strange' in it is a link or a device, not a file$")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(place, kind):
    with zipfile.ZipFile(place / "set.zip", "w") as archive:
        archive.writestr("good.png", b"good")
        info = zipfile.ZipInfo("strange")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")
    refuses(place / "set.zip", REFUSED, "'strange' in it is a link or a device")


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_more_than_the_limit_is_refused(place, name):
    archive = write(place / name, {"a": bytes(60_000), "b": bytes(60_001)})
    refuses(archive, REFUSED, "its files exceed the 120,000 bytes that this set may have", limit=120_000)
    unpack(archive, place / "into", limit=120_001)


def test_a_zip_that_declares_too_little_is_broken(place):
    archive = write(place / "set.zip", {"a": bytes(60_000)})
    archive.write_bytes(archive.read_bytes().replace((60_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    refuses(archive, BROKEN, "^set.zip is truncated or corrupt .*Bad CRC-32", limit=100)


def test_a_zip_that_declares_too_little_writes_no_more_than_that(place, monkeypatch):
    archive = write(place / "set.zip", {"a": bytes(60_000)})
    archive.write_bytes(archive.read_bytes().replace((60_000).to_bytes(4, "little"), (9).to_bytes(4, "little")))
    sizes = []
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: sizes.append((place / "into" / "a").stat().st_size))
    with pytest.raises(ArchiveError, match="Bad CRC-32"):
        unpack(archive, place / "into", 100)
    assert sizes[0] <= 9


def test_a_declared_size_beyond_the_limit_is_refused_before_it_is_read(place):
    info = tarfile.TarInfo("a")
    info.size = 10**12
    (place / "set.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    refuses(place / "set.tar", REFUSED, "exceed the 1,000,000 bytes")


def test_a_negative_size_is_refused(place):
    info = tarfile.TarInfo("a")
    info.size = -512  # back to this very header
    (place / "set.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    refuses(place / "set.tar", REFUSED, "exceed the 1,000,000 bytes")


@pytest.mark.parametrize("name", ["set.zip", *TARS])
@pytest.mark.parametrize("kept", [0, 100, 1000, 6000, 9000, 12_000, 17_000])
def test_a_cut_archive_is_broken(place, name, kept):
    archive = write(place / name, {f"{index}.png": random.Random(index).randbytes(2000) for index in range(9)})
    archive.write_bytes(archive.read_bytes()[:kept])
    refuses(archive, BROKEN, rf"^{name} is truncated or corrupt \(.+\)$")


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_whatever_byte_is_damaged_the_answer_is_in_words_and_clean(place, name):
    content = write(place / name, {"a/1.png": b"one" * 30, "a/2.png": b"two" * 30}).read_bytes()
    answers = Counter()
    for at in range(len(content)):
        (place / name).write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            unpack(place / name, place / "into", 10**6)
        except ArchiveError as error:
            answers[re.search(f"{REFUSED}|{BROKEN}", str(error))[0]] += 1
            assert not (place / "into").exists()
        else:
            shutil.rmtree(place / "into")
    assert answers[" is truncated or corrupt ("] > len(content) / 3


@pytest.mark.parametrize("name", ["set.zip", *TARS])
def test_another_format_under_the_name_is_broken(place, name):
    (place / name).write_bytes(b"<html>Please log in</html>" * 50)
    refuses(place / name, BROKEN, "is truncated or corrupt")


def test_compressions_that_no_set_uses_are_not_tried(place):
    plain = write(place / "set.tar", FILES)
    plain.write_bytes(lzma.compress(plain.read_bytes()))
    refuses(place / "set.tar", BROKEN, "is truncated or corrupt")


def test_a_file_in_the_way_of_a_folder_is_broken(place):
    refuses(write(place / "set.zip", {"a": b"file", "a/b": b"below"}), BROKEN, "Is a directory")


def test_a_locked_zip_is_broken(place):
    archive = write(place / "set.zip", {"a": b"content"})
    content = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + flags] |= 1
    archive.write_bytes(content)
    refuses(archive, BROKEN, "password required")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_a_fault_of_the_disk_is_passed_on_and_leaves_nothing(place, name, number, monkeypatch):
    archive = write(place / name, FILES)
    fail_writes(monkeypatch, "3.txt", number)
    with pytest.raises(OSError, match="on purpose") as told:
        unpack(archive, place / "into", 10**6)
    assert (told.value.errno, isinstance(told.value, UserError)) == (number, False)
    assert list(place.iterdir()) == [archive]


def test_an_interruption_leaves_nothing(place, monkeypatch):
    monkeypatch.setattr(unpacking, "_reason_to_refuse", lambda entry: (_ for _ in ()).throw(KeyboardInterrupt))
    archive = write(place / "set.zip", FILES)
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, place / "into", 10**6)
    assert list(place.iterdir()) == [archive]


def test_what_stands_there_is_not_unpacked_into(place):
    (place / "into").mkdir()
    (place / "into" / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack(write(place / "set.zip", FILES), place / "into", 10**6)
    assert contents(place / "into") == {"mine": b"mine"}
