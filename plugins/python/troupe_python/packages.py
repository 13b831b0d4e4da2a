"""Packages that the caller gives: wheels and folders in one folder, which is there only where something was given."""

import importlib.machinery
import os
import sys
import zipimport

FOLDER = "/packages"


def use():
    """Lets a program import what lies in the folder. A wheel is imported from as it is: it is a ZIP file."""
    try:
        names = sorted(os.listdir(FOLDER))
    except OSError:
        return
    sys.path.append(FOLDER)
    sys.path.extend(f"{FOLDER}/{name}" for name in names if name.endswith(".whl"))
    sources = (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES)
    sys.path_hooks[:] = [zipimport.zipimporter, importlib.machinery.FileFinder.path_hook(sources)]
    sys.meta_path.append(importlib.machinery.PathFinder)
