#!/usr/bin/env python3
"""Unpacks an arm64 kernel (vmlinuz: plain, gzip or EFI zboot) to the raw Image: unzboot.py VMLINUZ IMAGE"""
import gzip
import lzma
import struct
import subprocess
import sys


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


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        image = unpack(file.read())
    if image[56:60] != b"ARM\x64":
        raise SystemExit(f"unzboot: {sys.argv[1]} holds no arm64 Image")
    with open(sys.argv[2], "wb") as file:
        file.write(image)


if __name__ == "__main__":
    main()
