"""The node's cache: sent once, never believed unread, safe for two, within its limit, inside its folder."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from engine.recipes import Recipe, recipe_of
from engine.worker import cache as module
from engine.worker import recipe
from engine.worker.cache import Cache
from engine.worker.cache_folder import folder_for
from engine.worker.files import WorkerFolder, locked
from engine.worker.protocol import encode, read_frame
from engine.worker.receive import Receiver

MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class File:
    """A file to send, with its recipe."""

    def __init__(self, folder: Path, data: bytes, name: str = "file.png") -> None:
        self.data = data
        path = folder / name
        path.write_bytes(data)
        self.recipe: Recipe = recipe_of(path)
        self.digest = self.recipe.digest

    def chunk(self, index: int) -> bytes:
        start = sum(size for size, _ in self.recipe.chunks[:index])
        return self.data[start : start + self.recipe.chunks[index][0]]

    def send(self, cache: Cache, most: int | None = None) -> list[int]:
        """Send up to `most` of the chunks that are missing there; their numbers."""
        sent = []
        for first, count in cache.begin(self.digest, self.recipe.packed):
            for index in range(first, first + count):
                if most is not None and len(sent) == most:
                    return sent
                cache.put(self.digest, index, self.chunk(index))
                sent.append(index)
        return sent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 5])
def test_a_file_is_sent_once(tmp_path: Path, folder: Path, size: int) -> None:
    file = File(tmp_path, noise(size))
    cache = Cache(folder, 1 << 30)
    assert cache.lacking([file.digest]) == [file.digest]
    assert len(file.send(cache)) == len(file.recipe.chunks)
    assert cache.lacking([file.digest]) == []
    assert cache.path(file.digest).read_bytes() == file.data
    cache.close()
    again = Cache(folder, 1 << 30)
    assert again.lacking([file.digest]) == []
    again.link(file.digest, tmp_path / "tree.png")
    assert (tmp_path / "tree.png").read_bytes() == file.data
    again.close()
    assert list((folder / "leases").iterdir()) == []


def test_an_interrupted_upload_goes_on(tmp_path: Path, folder: Path) -> None:
    file = File(tmp_path, noise(5 * MIB))
    first = Cache(folder, 1 << 30)
    assert file.send(first, most=3) == [0, 1, 2]
    first.close()
    assert file.send(Cache(folder, 1 << 30)) == [3, 4]


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "flip half sent"])
def test_a_damaged_file_costs_a_chunk(tmp_path: Path, folder: Path, damage: str) -> None:
    file = File(tmp_path, noise(3 * MIB))
    cache = Cache(folder, 1 << 30)
    file.send(cache, most=2 if "half" in damage else None)
    path = folder / "partial" / file.digest if "half" in damage else cache.path(file.digest)
    cache.close()
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as handle:
        if "flip" in damage:
            handle.seek(MIB + 17)
            byte = handle.read(1)[0]
            handle.seek(MIB + 17)
            handle.write(bytes([byte ^ 4]))
        else:
            handle.truncate(MIB + 17 if damage == "cut" else 4 * MIB)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache = Cache(folder, 1 << 30)
    assert cache.lacking([file.digest]) == [file.digest]
    expected = {"flip": [1], "cut": [1, 2], "grow": [0, 1, 2], "flip half sent": [1, 2]}
    assert file.send(cache) == expected[damage]
    assert cache.lacking([file.digest]) == []
    assert cache.path(file.digest).read_bytes() == file.data


def test_what_is_not_the_chunk_is_refused(tmp_path: Path, folder: Path) -> None:
    file, other = File(tmp_path, noise(2 * MIB)), File(tmp_path, noise(MIB, 2))
    cache = Cache(folder, 1 << 30)
    with pytest.raises(ValueError, match="another file"):
        cache.begin(file.digest, other.recipe.packed)
    with pytest.raises(ValueError, match="was not begun"):
        cache.put(other.digest, 0, other.data)
    cache.begin(file.digest, file.recipe.packed)
    for first, data, words in (
        (0, file.chunk(1), "not what its recipe says"),
        (0, file.chunk(0)[:-1], "not what its recipe says"),
        (2, file.chunk(0), "more chunks"),
        (-1, file.chunk(1), "more chunks"),
        (1, file.chunk(1) + b"x", "more chunks"),
        (1, b"", "without a byte"),
    ):
        with pytest.raises(ValueError, match=words):
            cache.put(file.digest, first, data)
    assert not cache.path(file.digest).exists()


def test_only_changed_chunks_of_a_blend_are_sent(tmp_path: Path, folder: Path) -> None:
    data = noise(8 * MIB)
    cache = Cache(folder, 1 << 30)
    File(tmp_path, data, "a.blend").send(cache)
    edited = File(tmp_path, data[: 3 * MIB] + b"moved" + data[3 * MIB :], "a.blend")
    sent = edited.send(cache)
    assert 1 <= len(sent) <= 4
    assert cache.path(edited.digest).read_bytes() == edited.data


def test_a_damaged_old_file_does_not_spoil_a_new_one(tmp_path: Path, folder: Path) -> None:
    data = noise(8 * MIB)
    cache = Cache(folder, 1 << 30)
    old = File(tmp_path, data, "a.blend")
    old.send(cache)
    path = cache.path(old.digest)
    path.chmod(0o600)
    path.write_bytes(bytes(len(data)))
    edited = File(tmp_path, data + b"more", "a.blend")
    assert len(edited.send(cache)) == len(edited.recipe.chunks)
    assert cache.path(edited.digest).read_bytes() == edited.data


def test_what_was_unused_longest_makes_room(tmp_path: Path, folder: Path) -> None:
    files = [File(tmp_path, noise(MIB, seed)) for seed in range(4)]
    cache = Cache(folder, 3 * MIB)
    for number, file in enumerate(files[:3]):
        file.send(cache)
        os.utime(cache.path(file.digest), (number, number))
    assert cache.lacking([files[0].digest]) == []  # used now
    files[3].send(cache)
    cache.close()
    found = {path.name for path in folder.glob("objects/*/*")}
    assert found == {files[0].digest, files[2].digest, files[3].digest}


def test_what_a_living_worker_uses_stays(tmp_path: Path, folder: Path) -> None:
    files = [File(tmp_path, noise(MIB, seed)) for seed in range(3)]
    user, other = Cache(folder, MIB), Cache(folder, MIB)
    user.lacking([files[0].digest])
    files[0].send(user)
    files[1].send(other)
    assert user.path(files[0].digest).exists()
    user.close()
    files[2].send(other)
    assert not user.path(files[0].digest).exists()


def test_a_full_disk_is_said_before_anything_is_sent(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of a test cannot be filled without harm to others; its size is what is asked here."""
    file = File(tmp_path, noise(MIB))
    cache = Cache(folder, 1 << 40)
    monkeypatch.setattr(module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(OSError, match=r"MiB left, and 1 MiB are to be sent"):
        file.send(cache)


SENDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unit.test_cache import Cache, File
cache = Cache(Path(sys.argv[2]), 1 << 30)
file = File(Path(sys.argv[3]), Path(sys.argv[4]).read_bytes())
cache.lacking([file.digest])
print(len(file.send(cache)), flush=True)
assert cache.lacking([file.digest]) == []
"""


def test_two_workers_at_once(tmp_path: Path, folder: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(noise(24 * MIB))
    repository = Path(__file__).resolve().parents[2]
    senders = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        arguments = [str(repository), str(folder), str(tmp_path / name), str(data)]
        senders.append(
            subprocess.Popen([sys.executable, "-c", SENDER, *arguments], stdout=subprocess.PIPE, text=True)
        )
    sent = [int(sender.communicate(timeout=60)[0]) for sender in senders]
    assert [sender.returncode for sender in senders] == [0, 0, 0]
    assert sum(sent) == 24, "the others wait for what the first receives"
    (found,) = folder.glob("objects/*/*")
    assert found.read_bytes() == data.read_bytes()
    assert list((folder / "partial").iterdir()) == []


def test_a_worker_that_hangs_is_not_waited_for(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OTHERS_PAUSE_S", 1.0)
    file = File(tmp_path, noise(3 * MIB))
    hanging, other = Cache(folder, 1 << 30), Cache(folder, 1 << 30)
    file.send(hanging, most=1)
    start = time.monotonic()
    assert file.send(other) == [1, 2]
    assert 0.9 < time.monotonic() - start < 10
    # Should it wake up after all, it finds its work done.
    assert hanging.put(file.digest, 1, file.chunk(1)) is False
    assert hanging.put(file.digest, 2, file.chunk(2)) is True
    assert hanging.path(file.digest).read_bytes() == file.data


@pytest.mark.parametrize("does", ["begin to use something", "start"])
def test_cleaning_and_using_exclude_each_other(folder: Path, does: str) -> None:
    """One that had made its lease, and not locked it yet, would be taken for dead."""
    cache, other = Cache(folder, 1 << 30), Cache(folder, 1 << 30)
    start = threading.Thread(target=Cache, args=(folder, 1 << 30))
    thread = start if does == "start" else threading.Thread(target=other.lacking, args=(["0" * 64],))
    with cache._leases.held():
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(5)
    assert not thread.is_alive()


def test_a_damaged_note_of_chunks_costs_nothing(tmp_path: Path, folder: Path) -> None:
    file = File(tmp_path, noise(3 * MIB))
    cache = Cache(folder, 1 << 30)
    file.send(cache)
    (note,) = folder.glob("recipes/*/*")
    for damaged in (b"x", note.read_bytes()[:36], b""):
        note.write_bytes(damaged)
        assert cache.lacking([file.digest]) == [file.digest]
        assert file.send(cache) == []
        assert cache.path(file.digest).read_bytes() == file.data


def test_files_that_arrive_together_need_room_together(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are begun before the first chunk of any comes."""
    one, two = (File(tmp_path, noise(2 * MIB, seed)) for seed in (1, 2))
    cache = Cache(folder, 1 << 40)
    usage = shutil.disk_usage(tmp_path)._replace(free=module.SPARE_BYTES + 3 * MIB)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    assert cache.begin(one.digest, one.recipe.packed) == [(0, 2)]
    with pytest.raises(OSError, match=r"MiB left, and 4 MiB are to be sent"):
        cache.begin(two.digest, two.recipe.packed)


def test_files_that_arrive_together_stay_within_the_limit(tmp_path: Path, folder: Path) -> None:
    cache = Cache(folder, 5 * MIB)
    for seed in range(4):
        File(tmp_path, noise(MIB, seed)).send(cache)
    cache.close()
    cache = Cache(folder, 5 * MIB)
    fresh = [File(tmp_path, noise(2 * MIB, seed)) for seed in (5, 6)]
    for file in fresh:
        cache.begin(file.digest, file.recipe.packed)
    for file in fresh:
        assert not cache.put(file.digest, 0, file.chunk(0))
        assert cache.put(file.digest, 1, file.chunk(1))
    assert sum(path.stat().st_size for path in folder.glob("objects/*/*")) == 5 * MIB


def test_a_crash_while_a_file_is_finished_leaves_what_can_be_gone_on_with(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File(tmp_path, noise(2 * MIB))
    cache = Cache(folder, 1 << 30)
    seen: list[bool] = []

    def crash(self: Path, target: Path) -> Path:
        lock = locked(Path(f"{folder}/partial/{file.digest}.lock"))
        seen.append(lock is None)
        raise RuntimeError("crash")

    file.send(cache, most=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        patch.setattr(module, "_write_whole", lambda *_: None)
        with pytest.raises(RuntimeError, match="crash"):
            cache.put(file.digest, 1, file.chunk(1))
    assert seen == [True], "whoever waits for this file must not begin it anew in this moment"
    partial = folder / "partial" / file.digest
    assert partial.stat().st_mode & 0o200
    partial.chmod(0o400)  # as a crash after a damaged object was set aside leaves it
    again = Cache(folder, 1 << 30)
    assert file.send(again) == []
    assert again.path(file.digest).read_bytes() == file.data


def test_what_another_put_in_place_of_an_arriving_file_is_not_taken_for_it(
    tmp_path: Path, folder: Path
) -> None:
    file = File(tmp_path, noise(2 * MIB))
    cache = Cache(folder, 1 << 30)
    file.send(cache, most=1)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(2 * MIB))
    damaged.replace(folder / "partial" / file.digest)
    with pytest.raises(OSError, match="another worker"):
        cache.put(file.digest, 1, file.chunk(1))
    assert not cache.path(file.digest).exists()


def test_what_was_half_sent_of_an_older_file_is_used(tmp_path: Path, folder: Path) -> None:
    """A render stopped in mid upload; the next one's snapshot is another file."""
    data = noise(8 * MIB)
    cache = Cache(folder, 1 << 30)
    old = File(tmp_path, data, "a.blend")
    half = len(old.recipe.chunks) // 2
    old.send(cache, most=half)
    cache.close()
    edited = File(tmp_path, b"moved" + data, "a.blend")
    sent = edited.send(Cache(folder, 1 << 30))
    assert len(sent) <= len(edited.recipe.chunks) - half + 3
    assert Cache(folder, 1 << 30).path(edited.digest).read_bytes() == edited.data


def test_links_in_the_cache_lead_nowhere(tmp_path: Path, folder: Path) -> None:
    """Somebody put links to a precious file where an object, and a half-sent file, would be."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    file = File(tmp_path, noise(2 * MIB))
    cache = Cache(folder, 1 << 30)
    cache.path(file.digest).parent.mkdir()
    cache.path(file.digest).symlink_to(precious)
    (folder / "partial" / file.digest).symlink_to(precious)
    assert cache.lacking([file.digest]) == [file.digest]
    file.send(cache)
    assert cache.path(file.digest).read_bytes() == file.data
    assert not cache.path(file.digest).is_symlink()
    assert precious.read_bytes() == b"precious"


def test_a_folder_of_the_cache_that_is_a_link_is_refused(tmp_path: Path, folder: Path) -> None:
    Cache(folder, 1).close()
    (folder / "partial").rmdir()
    (folder / "partial").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a link"):
        Cache(folder, 1)


def test_a_file_that_was_lost_does_not_hide_another_with_the_same_chunks(
    tmp_path: Path, folder: Path
) -> None:
    data = noise(4 * MIB)
    cache = Cache(folder, 1 << 30)
    files = [File(tmp_path, data + bytes([number]), "a.blend") for number in range(6)]
    for file in files:
        file.send(cache)
    for lost in files[1:]:
        cache.path(lost.digest).unlink()
    edited = File(tmp_path, data + b"edited", "a.blend")
    assert len(edited.send(Cache(folder, 1 << 30))) == 1


def test_a_file_system_without_locks_is_named_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cluster's may be. No such file system is at hand; this is what the system would say."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"file system of .*cache has no locks"):
        Cache(folder, 1)


def put_all(receiver: Receiver, files: list[File], refused: list[str]) -> None:
    for file in files:
        header = {"type": "chunks", "digest": file.digest, "first": 0, "packed": False}
        try:
            receiver.handle(header, file.data)
        except Exception as error:  # noqa: BLE001 - all are looked at
            refused.append(str(error))


def test_a_worker_is_told_to_end_while_chunks_come(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another thread than that which writes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for seed in range(10):
        files = [File(tmp_path, noise(20, seed * 100 + number), f"{number}") for number in range(50)]
        answers: list[dict[str, object]] = []
        receiver = Receiver(WorkerFolder(), lambda header, _=b"", answers=answers: answers.append(header))
        receiver.handle({"type": "cache", "folder": str(folder), "limit": 1 << 30}, b"")
        for file in files:
            receiver.handle({"type": "recipe", "digest": file.digest}, file.recipe.packed)
        refused: list[str] = []
        thread = threading.Thread(target=put_all, args=(receiver, files, refused))
        thread.start()
        time.sleep(random.Random(seed).uniform(0, 0.01))
        receiver.close()
        thread.join(10)
        assert set(refused) <= {"chunks of a file that was not begun"}
        stored = sum(answer["type"] == "stored" for answer in answers)
        assert stored + len(refused) == len(files)


def test_the_answer_for_a_file_of_very_many_chunks_fits_a_frame(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other chunk of a large .blend is there, as after an edit all over it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    count = 200_000
    packed = recipe.pack([(1, hashlib.sha256(b"a").digest())] * count)
    digest = recipe.digest_of(packed)
    frames: list[bytes] = []
    receiver = Receiver(WorkerFolder(), lambda *frame: frames.append(b"".join(encode(*frame))))
    receiver.handle({"type": "cache", "folder": str(folder), "limit": 1 << 30}, b"")
    (folder / "partial" / digest).write_bytes(b"ab" * (count // 2))
    receiver.handle({"type": "recipe", "digest": digest}, packed)
    header, payload = read_frame(io.BytesIO(frames[-1]).read)
    assert header == {"type": "missing", "digest": digest}
    assert json.loads(payload) == [[number, 1] for number in range(1, count, 2)]


@pytest.mark.parametrize("which", ["", "objects"])
def test_what_another_user_made_ready_for_us_is_refused(tmp_path: Path, folder: Path, which: str) -> None:
    """In a folder that all may write to, as /tmp is, somebody has put a link to one of our own folders."""
    Cache(folder, 1).close()
    if which:
        own = folder / which
        os.chown(own, 65534, 65534)
    else:
        own = tmp_path / "link"
        own.symlink_to(folder)
        os.chown(own, 65534, 65534, follow_symlinks=False)
        folder = own
    with pytest.raises(ValueError, match="belongs to another user"):
        Cache(folder, 1)


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "0" * 63, "0" * 65, "A" * 64, "", 7, None])
def test_only_digests_name_objects(folder: Path, name: object) -> None:
    with pytest.raises(ValueError, match="no digest"):
        Cache(folder, 1).lacking([name])  # type: ignore[list-item] # whatever comes over the wire


@pytest.mark.parametrize("named", ["/", "~", "/home", "~/..", "cache", "./x"])
def test_a_home_or_a_root_is_no_cache(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(ValueError, match="cache folder"):
        folder_for(named)


def no_home(*_: object) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folder_for("") == tmp_path / ".cache/distributed-cycles/files"
    assert folder_for("~/disk/cache") == tmp_path / "disk/cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "else"))
    assert folder_for("") == tmp_path / "else/distributed-cycles/files"
    # None at all, as in a container with a user whom it does not know.
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "home", no_home)
        patch.setattr(Path, "expanduser", lambda path: no_home() if path.parts[0] == "~" else path)
        assert folder_for("").parent == Path(tempfile.gettempdir())
        assert folder_for(str(tmp_path / "x")) == tmp_path / "x"
        with pytest.raises(ValueError, match="no home"):
            folder_for("~/cache")
    # A home that cannot be written, as service users have it.
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert folder_for("").parent == Path(tempfile.gettempdir())
