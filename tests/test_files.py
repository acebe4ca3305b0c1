"""Files that are replaced as a whole: what is refused, and what is left behind."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import instep
import numpy as np
import pytest
from instep import files


def optimizer(t: int = 0, size: int = 3) -> instep.Adam:
    opt = instep.Adam(np.full(size, float(t)), lr=0.5)
    opt.t = t
    return opt


def saved_by(path: Path) -> int:
    """Which of these optimizers has saved the file."""
    opt = optimizer()
    opt.load(path)
    assert opt.param_groups[0]["params"][0] == opt.t
    return opt.t


# What is refused


def make_special(path: Path, kind: str) -> None:
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        path.symlink_to("/dev/null")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's path must be short
            try:
                server.bind(path.name)
            finally:
                os.chdir(here)


def looked_at(folder: Path) -> dict[str, tuple[int, ...]]:
    """Say of each entry what it is and when it was changed; to read a link is a change of none."""
    found: dict[str, tuple[int, ...]] = {}
    for entry in folder.iterdir():
        stat = entry.lstat()
        found[entry.name] = stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns
    return found


@pytest.mark.parametrize("through", ["itself", "a link", "a link to a link"])
@pytest.mark.parametrize("kind", ["a FIFO", "a folder", "a socket", "a device"])
def test_what_is_no_regular_file_is_neither_replaced_nor_read(
    kind: str, through: str, tmp_path: Path
) -> None:
    path = tmp_path / "it"
    make_special(path, kind)
    for _ in range(("itself", "a link", "a link to a link").index(through)):
        link = path.with_name(path.name + "-link")
        link.symlink_to(path)
        path = link
    before = looked_at(tmp_path)
    opt = optimizer()
    with pytest.raises(OSError, match=f"it is {kind}; wanted a regular file or a new") as caught:
        opt.save(path)
    assert caught.value.filename == str(path)
    # Not even opened: a FIFO that nobody writes to would be waited for.
    with pytest.raises(OSError, match=f"it is {kind}; wanted a regular file:"):
        opt.load(path)
    assert looked_at(tmp_path) == before


def test_links_that_go_in_a_circle(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    for call in (optimizer().save, optimizer().load):
        with pytest.raises(OSError, match="one") as caught:
            call(one)
        assert caught.value.errno == errno.ELOOP
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_link_to_nothing_yet_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(Path("folder", "new"))
    optimizer(3).save(link, params=True)
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]
    assert saved_by(tmp_path / "folder" / "new") == 3
    link.unlink()
    link.symlink_to(tmp_path / "nowhere" / "new")
    with pytest.raises(FileNotFoundError) as caught:
        optimizer(3).save(link, params=True)
    assert caught.value.filename == str(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, ".hidden", "a b", "-x", "\udc80"])
def test_names_of_any_length(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for t in (1, 2):
        optimizer(t).save(path, params=True)
        assert saved_by(path) == t
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_paths_that_are_none(tmp_path: Path) -> None:
    for path in (3, None, 1.5):
        for call in (optimizer().save, optimizer().load):
            with pytest.raises(TypeError):
                call(path)  # type: ignore[arg-type]


# What is left behind


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KILLED = """
import os, sys
from instep import files
with files.replacing(sys.argv[1]) as file:
    file.write(b"x" * 100_000)
    file.flush()
    print("written", flush=True)
    sys.stdin.read(1)
    os.kill(os.getpid(), 9)
"""


def start_writing(path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that has written a part of a file, and is killed once it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    return process


def test_the_next_save_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    path, other = tmp_path / "state", tmp_path / "other"
    optimizer(1).save(path, params=True)
    for _ in range(2):
        process = start_writing(path)
        # Nobody removes what is being written.
        optimizer(2).save(path, params=True)
        assert len(names(tmp_path)) == 2
        process.communicate(b"!")
        assert process.returncode == -9
        left = names(tmp_path)
        assert len(left) == 2
        assert left[0].startswith(".instep-")
        assert saved_by(path) == 2
        # Another file's save leaves it, the next one of this file does not.
        optimizer(3).save(other, params=True)
        assert names(tmp_path) == [left[0], "other", "state"]
        other.unlink()
    optimizer(4).save(path, params=True)
    assert names(tmp_path) == ["state"]
    assert saved_by(path) == 4


def test_a_killed_save_is_replaced_by_the_next_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for _ in range(3):
        process = start_writing(path)
        process.communicate(b"!")
        assert len(names(tmp_path)) == 1
    with pytest.raises(FileNotFoundError):
        optimizer().load(path)


def test_two_that_replace_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(path) as first:
        first.write(b"first")
        with files.replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_threads_that_save_to_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    path = tmp_path / "state"
    failures: list[BaseException] = []
    barrier = threading.Barrier(4)

    def work(first: int) -> None:
        try:
            barrier.wait()
            for t in range(first, first + 8):
                optimizer(t, 5_000).save(path, params=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            opt = optimizer(size=5_000)
            opt.load(path)
            assert (opt.param_groups[0]["params"] == opt.t).all()
            seen.append(opt.t)
    for thread in threads:
        thread.join()
    assert not failures
    assert seen
    assert names(tmp_path) == ["state"]


def test_a_file_that_another_removes_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    lock = files._lock
    calls = []

    def late(descriptor: int) -> None:
        calls.append(descriptor)
        (temporary,) = tmp_path.glob(".instep-*")
        if len(calls) == 1:
            # Another was first with the lock, and removes it in a moment.
            with temporary.open("rb") as other:
                fcntl.flock(other, fcntl.LOCK_EX)
                try:
                    lock(descriptor)
                finally:
                    temporary.unlink()
        if len(calls) == 2:
            # Another has already removed it.
            temporary.unlink()
        lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    with files.replacing(path) as file:
        file.write(b"content")
    assert len(calls) == 3
    assert path.read_bytes() == b"content"
    assert names(tmp_path) == ["file"]


def test_where_there_are_no_locks_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    path = tmp_path / "file"
    monkeypatch.setattr(files, "_lock", missing)
    with files.replacing(path) as first:
        first.write(b"first")
        with files.replacing(path) as second:
            second.write(b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    path = tmp_path / "file"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        with files.replacing(path) as file:
            file.write(b"content")
    assert path.read_bytes() == b"content"


def test_what_looks_like_a_file_that_was_left_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "state"
    process = start_writing(path)
    process.communicate(b"!")
    (left,) = tmp_path.iterdir()
    left.unlink()
    os.mkfifo(left)  # opened to be read, it would be waited for
    precious = tmp_path / "precious"
    precious.write_bytes(b"content")
    link = left.with_name(left.name.replace(".tmp", "0.tmp"))
    link.symlink_to(precious)
    optimizer(1).save(path, params=True)
    assert saved_by(path) == 1
    assert link.is_symlink()
    assert precious.read_bytes() == b"content"
