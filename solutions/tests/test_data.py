"""The data folder: MNIST as it should be, and every way in which it can be damaged."""

import gzip
import hashlib
import http.server
import os
import struct
import sys
import threading
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from t2i.data import data_source, mnist
from t2i.files import mnist_fetch, mnist_files
from t2i.files.mnist_files import DataError


def _real_folder() -> Path | None:
    """The folder with the real MNIST, as the course finds it, without downloading it."""
    try:
        return mnist_files.mnist_folder()
    except DataError:
        return None


REAL = _real_folder()
needs_mnist = pytest.mark.skipif(
    REAL is None, reason="needs the real MNIST files: set T2I_DATA to a folder with MNIST/raw"
)


def _idx(magic: int, shape: tuple[int, ...], fill: bytes) -> bytes:
    return struct.pack(f">i{len(shape)}i", magic, *shape) + fill


def _small_files() -> dict[str, bytes]:
    """Four tiny files in MNIST's format: 6 pictures to train on, 4 to test on."""
    files = {}
    for prefix, count in (("train", 6), ("t10k", 4)):
        pictures = bytes(range(256)) * 4 * count
        files[f"{prefix}-images-idx3-ubyte"] = _idx(
            0x803, (count, 28, 28), pictures[: count * 28 * 28]
        )
        files[f"{prefix}-labels-idx1-ubyte"] = _idx(0x801, (count,), bytes(range(count)))
    return files


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A data folder with small files that count as whole; T2I_DATA points to it."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    table = {}
    for name, content in _small_files().items():
        (raw / name).write_bytes(content)
        table[name] = (len(content), hashlib.md5(content).hexdigest())
    monkeypatch.setattr(mnist_files, "MNIST_FILES", table)
    monkeypatch.setattr(mnist_fetch, "_why_without", None)
    monkeypatch.setenv("T2I_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("T2I_OFFLINE", "1")
    return raw


@needs_mnist
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_real_mnist(split, count):
    images, labels = mnist(split)
    assert images.shape == (count, 1, 28, 28) and images.dtype == torch.float32
    assert images.min() == -1 and images.max() == 1
    assert labels.shape == (count,) and labels.dtype == torch.int64
    assert labels.bincount().min() > count * 0.085  # ten classes, about equal
    assert images[:, :, 0].mean() < -0.99  # the border is background


@needs_mnist
def test_the_source_of_real_mnist_is_named():
    assert data_source() == f"MNIST, 60,000 + 10,000 digits, checksums right, in {REAL}"


def test_small_files_load(small):
    images, labels = mnist("train")
    assert images.shape == (6, 1, 28, 28)
    assert labels.tolist() == list(range(6))
    torch.testing.assert_close(images[0, 0, 0, :3], torch.tensor([0, 1, 2]) / 127.5 - 1)
    assert mnist("test")[0].shape == (4, 1, 28, 28)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match='"train" or "test", not .val'):
        mnist("val")


IMAGES = "train-images-idx3-ubyte"


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4])


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _make_unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem" if sys.platform == "linux" else path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, r"is truncated \(1,180 of 4,720 bytes\)"),
        (_empty, r"is truncated \(0 of 4,720 bytes\)"),
        (_lengthen, r"has the wrong size \(4,721 bytes where MNIST has 4,720\)"),
        (_flip_a_byte, r"is corrupt \(its checksum is not MNIST's\)"),
        (Path.unlink, r"is missing while its neighbours are there"),
    ],
)
def test_a_damaged_file_is_named_with_the_mend(small, damage, says):
    damage(small / IMAGES)
    before = sorted(small.parent.parent.rglob("*"))
    for action in (mnist, data_source):
        with pytest.raises(DataError, match=says) as caught:
            action()
        message = str(caught.value)
        assert message.startswith(str(small / IMAGES)) and "\n" not in message
        assert "put a whole copy there, or unset T2I_DATA" in message
    assert sorted(small.parent.parent.rglob("*")) == before  # somebody else's folder is left alone


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that root cannot read either")
def test_an_unreadable_file_is_named(small):
    _make_unreadable(small / IMAGES)
    with pytest.raises(DataError, match=f"{IMAGES} (cannot be read|is missing)"):
        mnist()


def test_a_damaged_label_file_does_not_stop_the_other_split(small):
    _truncate(small / "t10k-labels-idx1-ubyte")
    mnist("train")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is truncated"):
        mnist("test")


def test_a_read_only_copy_is_used_as_it_is(small):
    folders = [small, small.parent, small.parent.parent]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert len(mnist("test")[1]) == 4
        assert "checksums right" in data_source()
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_read_only_folder_without_mnist_is_one_sentence(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("T2I_DATA", str(tmp_path))
    monkeypatch.setattr(mnist_fetch, "_why_without", None)
    monkeypatch.setattr(mnist_fetch.tempfile, "mkdtemp", refuse)
    with pytest.raises(DataError, match="cannot be written .Permission denied.: set T2I_DATA"):
        mnist()


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("T2I_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere, which is not a folder: point it to"):
        mnist()


def test_without_network_and_copy_the_small_digits_stand_in(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("T2I_DATA", str(tmp_path))
    monkeypatch.setenv("T2I_OFFLINE", "1")
    monkeypatch.setattr(mnist_fetch, "_why_without", None)
    assert "first use downloads it" in data_source()
    images, labels = mnist("train")
    tests, test_labels = mnist("test")
    assert images.shape == (1500, 1, 28, 28) and tests.shape == (297, 1, 28, 28)
    assert images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.min() == -1 and 0.9 < images.max() <= 1
    assert set(labels.tolist()) == set(test_labels.tolist()) == set(range(10))
    notice = capsys.readouterr().err
    assert notice.count("NOTICE: MNIST cannot be had here") == 1  # once, and in one line
    assert notice.count("\n") == 1
    assert "scikit-learn's 1,797 digits" in data_source()
    assert list(tmp_path.iterdir()) == []


def test_a_silent_network_is_given_up_soon(monkeypatch):
    assert mnist_fetch.NETWORK_SECONDS <= 10
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), None) as silent:  # accepts, says nothing
        address = f"http://127.0.0.1:{silent.server_port}/"
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
        monkeypatch.setattr(mnist_fetch, "NETWORK_SECONDS", 0.5)
        monkeypatch.delenv("T2I_OFFLINE", raising=False)
        assert mnist_fetch._answering_mirror() is None  # it would wait for ever


@pytest.fixture
def mirror(small, tmp_path, monkeypatch):
    """A mirror on this machine that serves the small files, packed; the copy itself is gone."""
    served = tmp_path / "served"
    served.mkdir()
    resources = []
    for name, content in _small_files().items():
        packed = gzip.compress(content)
        (served / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(served))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.delenv("T2I_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    server.shutdown()
    server.server_close()


def _remove(raw: Path) -> Path:
    for path in raw.iterdir():
        path.unlink()
    raw.rmdir()
    raw.parent.rmdir()
    return raw.parent.parent


def test_a_download_arrives_whole(small, mirror, capsys):
    folder = _remove(small)
    left = folder / ".mnist-left-by-a-killed-run"
    left.mkdir()
    os.utime(left, (0, 0))
    images, _ = mnist("train")
    assert images.shape == (6, 1, 28, 28)
    assert sorted(path.name for path in small.iterdir()) == sorted(mnist_files.MNIST_FILES)
    assert [path.name for path in folder.iterdir()] == ["MNIST"]
    assert "Downloading MNIST" in capsys.readouterr().err


@pytest.mark.parametrize("word, asks", [("1", False), ("yes", False), ("0", True), ("", True)])
def test_offline_forbids_the_download_unless_it_is_0(small, mirror, monkeypatch, word, asks):
    monkeypatch.setenv("T2I_OFFLINE", word)
    assert (mnist_fetch._answering_mirror() is not None) is asks


def test_a_damaged_download_leaves_nothing_behind(small, mirror, capsys):
    folder = _remove(small)
    archive = mirror / "t10k-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:50])
    assert mnist("test")[0].shape == (297, 1, 28, 28)
    assert "the download failed" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_copy_that_another_process_has_just_put_there_stays(small, tmp_path):
    (tmp_path / "mine").mkdir()
    folder = mnist_files.data_folder()
    mnist_fetch._move_into_place(tmp_path / "mine", folder, tmp_path / "damaged")
    assert (tmp_path / "mine").is_dir() and not (tmp_path / "damaged").exists()


def test_our_own_damaged_copy_is_fetched_again(small, mirror, capsys, monkeypatch):
    folder = small.parent.parent
    monkeypatch.delenv("T2I_DATA")
    monkeypatch.setattr(mnist_files, "data_folder", lambda: folder)
    monkeypatch.setattr(mnist_fetch, "data_folder", lambda: folder)
    _truncate(small / IMAGES)
    assert mnist("train")[0].shape == (6, 1, 28, 28)
    assert "is truncated" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["MNIST"]


def test_our_own_damaged_copy_without_network_is_named(small, monkeypatch):
    folder = small.parent.parent
    monkeypatch.delenv("T2I_DATA")
    monkeypatch.setattr(mnist_files, "data_folder", lambda: folder)
    monkeypatch.setattr(mnist_fetch, "data_folder", lambda: folder)
    _flip_a_byte(small / IMAGES)
    with pytest.raises(DataError, match="is corrupt .* delete .* and run again with a network"):
        mnist("train")
    assert (small / IMAGES).exists()
