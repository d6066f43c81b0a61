"""Layers as an engine exports them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grader.layers import compressed_sizes, unpacked_sizes


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def exported(blob: bytes) -> Any:
    """An engine whose only image has this layer, as the containerd store exports it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}")
        info.size = len(blob)
        tar.addfile(info, io.BytesIO(blob))

    def get_image(_image: str, chunk_size: int) -> Iterator[bytes]:
        whole = out.getvalue()
        return (whole[n : n + chunk_size] for n in range(0, len(whole), chunk_size))

    return SimpleNamespace(api=SimpleNamespace(get_image=get_image))


def one_file(megabytes: int) -> list[bytes]:
    """The tar of one file of zeros, in pieces."""
    info = tarfile.TarInfo("zeros")
    info.size = megabytes << 20
    return [info.tobuf(), *[bytes(1 << 20)] * megabytes, bytes(10_240)]


def test_a_layer_of_several_gzip_members_is_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As eStargz has them, one for each file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pieces = one_file(3)
    blob, diff_id = b"".join(map(gzip.compress, pieces)), sha256(b"".join(pieces))
    assert compressed_sizes(exported(blob), "image", {diff_id: None}) == {diff_id: len(blob)}
    assert unpacked_sizes(exported(blob), "image", [diff_id]) == {diff_id: 3 << 20}


def test_what_a_layer_unzips_to_is_never_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth of it is what arrives: a chunk of a megabyte would be a gigabyte."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pieces = one_file(100)
    blob, diff_id = gzip.compress(b"".join(pieces)), sha256(b"".join(pieces))
    del pieces
    tracemalloc.start()
    try:
        assert compressed_sizes(exported(blob), "image", {diff_id: None}) == {diff_id: len(blob)}
        assert unpacked_sizes(exported(blob), "image", [diff_id]) == {diff_id: 100 << 20}
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
