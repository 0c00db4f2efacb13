"""The files of MNIST and CIFAR, written from arrays."""

import gzip
import struct

import numpy as np


def idx(array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist_folder(path, images, labels, suffix="-ubyte", part="train"):
    """Writes the files of images and of labels (none for None) of the part "train" or "t10k"."""
    write = gzip.compress if suffix.endswith(".gz") else bytes
    (path / f"{part}-images-idx3{suffix}").write_bytes(write(images))
    if labels is not None:
        (path / f"{part}-labels-idx1{suffix}").write_bytes(write(labels))
    return path


def cifar_records(images, labels, label_bytes=1):
    """The bytes of images [n, 32, 32, 3], each after its label; with two label bytes the first is a coarse label."""
    coarse = np.zeros((len(images), label_bytes - 1))
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([coarse, labels[:, None], pixels], 1).astype(np.uint8).tobytes()
