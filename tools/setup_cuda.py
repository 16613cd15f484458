#!/usr/bin/env python
"""Prepare this machine's CUDA 13 or cuDNN 9 for Jittor 1.3.11, once; later starts use it by themselves.

It makes one folder of links and a few headers below Jittor's cache. The installed Jittor is not changed: its
patches go into a copy in the cache, at the next start. --undo removes the folder, and restores what earlier
versions of this tool changed in Jittor. CUDA 11 or 12 with cuDNN 8 needs none of it.
"""
from __future__ import annotations

import argparse
from typing import Optional, Sequence

import cli

from ldm.platform import cache, devices
from ldm.platform.cuda import setup, toolchain
from ldm.platform.cuda.toolkit import dotted


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--undo", action="store_true", help="remove the folder, restore an installed Jittor")
    return parser.parse_args(argv)


def show(found: setup.Survey) -> None:
    print(f"CUDA {dotted(found.toolkit.version)} in {found.toolkit.home}")
    if found.cudnn is None:
        return print("cuDNN 8: nothing to set up; the patches go into a copy of Jittor")
    print(f"cuDNN {dotted(found.cudnn.version)} in {found.cudnn.library}")
    print(f"toolchain {found.folder}: {len(found.tree)} files and links, of which")
    for name, why in setup.reasons(found.tree).items():
        print(f"  {name}: {why}")


def undo() -> None:
    restored, had_folder = setup.undo(cache.cache_folder())
    for name in restored:
        print(f"restored {name}")
    print("removed the toolchain" if had_folder else "there was no toolchain")


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse(argv)
    if args.undo:
        return undo()
    found = setup.survey(cache.cache_folder())
    show(found)
    if found.folder is None:
        return
    fresh = toolchain.write(found.tree, found.folder)
    print("toolchain: made" if fresh else "toolchain: there and whole, nothing to do")
    if not devices.visible_devices():
        print("This machine shows no NVIDIA device: everything runs on the CPU until it does.")


if __name__ == "__main__":
    cli.run(main)
