#!/usr/bin/env python3
"""Unpacks an arm64 kernel (vmlinuz: plain, gzip or EFI zboot) to the raw Image: unzboot.py VMLINUZ IMAGE"""
import gzip
import lzma
import struct
import subprocess
import sys
from pathlib import Path


def unpack(data: bytes) -> bytes:
    if data[:2] == b"MZ" and data[4:8] == b"zimg":  # EFI zboot: offset, size, 8 bytes reserved, compression's name
        offset, size = struct.unpack_from("<II", data, 8)
        kind = data[24:56].split(b"\0")[0].decode()
        payload = data[offset:offset + size]
        if kind == "gzip":
            return gzip.decompress(payload)
        if kind in ("xzkern", "xz", "lzma"):
            return lzma.decompress(payload)
        if kind in ("zstd", "zstd22"):
            return subprocess.run(["zstd", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout
        raise SystemExit(f"unzboot: compression {kind} is not supported")
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return data


def image(path: Path) -> bytes:
    """The raw Image in the file."""
    try:
        unpacked = unpack(path.read_bytes())
    except OSError as error:
        raise SystemExit(f"unzboot: {path}: {error.strerror or error}") from error
    if unpacked[56:60] != b"ARM\x64":
        raise SystemExit(f"unzboot: {path} holds no arm64 Image: expected one, or a vmlinuz of it (gzip, EFI zboot)")
    return unpacked


def main() -> None:
    Path(sys.argv[2]).write_bytes(image(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
