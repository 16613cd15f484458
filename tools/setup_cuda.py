#!/usr/bin/env python
"""Prepare Jittor 1.3.11 for CUDA 13 or cuDNN 9, once; later starts use it by themselves.

It makes one folder of links and a few headers below Jittor's cache, and changes files of the installed Jittor
after asking. --undo takes both back. CUDA 11 or 12 with cuDNN 8 needs none of it and is left alone.
"""
import sys

import cli

from ldm.errors import UserError
from ldm.platform import runtime
from ldm.platform.cuda import setup
from ldm.platform.cuda.toolkit import dotted


def parse():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--yes", action="store_true", help="change the installed Jittor without asking")
    parser.add_argument("--undo", action="store_true", help="give Jittor its files back, remove the folder")
    return parser.parse_args()


def confirm(found):
    """Ask before Jittor is changed; nobody to ask is an error, and so is a no."""
    question = f"Change these {len(found.pending)} files of {found.jittor}? [y/N] "
    if not sys.stdin.isatty():
        raise UserError("--yes", f"is needed to change {found.jittor} where nobody can be asked")
    if input(question).strip().lower() not in ("y", "yes"):
        raise UserError(found.jittor, "stays as it is", "answer y to go on")


def show(found):
    print(f"CUDA {dotted(found.toolkit.version)} in {found.toolkit.home}")
    if found.cudnn is None:
        return print("cuDNN 8: Jittor builds with these as it is, nothing to do")
    print(f"cuDNN {dotted(found.cudnn.version)} in {found.cudnn.library}")
    print(f"toolchain {found.folder}: {len(found.tree)} files and links, of which")
    for name, why in setup.reasons(found.tree).items():
        print(f"  {name}: {why}")
    for patch in found.pending:
        print(f"to change in Jittor: {patch.path}: {patch.why}")


def undo():
    removed, had_folder = setup.undo(runtime.cache_folder())
    for patch in removed:
        print(f"restored {patch.path}")
    print("removed the toolchain" if had_folder else "there was no toolchain")


def main():
    args = parse()
    if args.undo:
        return undo()
    found = setup.survey(runtime.cache_folder())
    show(found)
    if found.cudnn is None:
        return
    if found.pending and not args.yes:
        confirm(found)
    applied, fresh = setup.apply(found)
    print(f"Jittor: {len(applied)} files changed" if applied else "Jittor: changed before, nothing to do")
    print("toolchain: made" if fresh else "toolchain: there and whole, nothing to do")
    if not runtime.has_cuda_device():
        print("This machine shows no NVIDIA device: everything runs on the CPU until it does.")


if __name__ == "__main__":
    cli.run(main)
