#!/usr/bin/env python3
"""Packs an initramfs: initramfs.py OUTPUT NAME=FILE... (all executable)"""
import sys
from pathlib import Path

from qemu import cpio

Path(sys.argv[1]).write_bytes(cpio({name: Path(file).read_bytes() for name, file in
                                    (argument.split("=", 1) for argument in sys.argv[2:])}, executable=True))
