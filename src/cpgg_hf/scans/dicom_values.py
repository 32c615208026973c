"""Values and pixels of a DICOM data set that may be damaged."""

from typing import Any

import numpy as np

from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional


def value_of(dataset: Any, name: str) -> Any:
    """The value of a tag, or None if it is absent or damaged: pydicom converts values only on access."""
    try:
        return dataset.get(name)
    except Exception:  # damaged values raise many kinds
        return None


def numbers_of(dataset: Any, name: str, count: int) -> np.ndarray | None:
    """The numbers of a tag as (count,) float64, or None if they are absent or not numbers."""
    try:
        numbers = np.atleast_1d(np.asarray(value_of(dataset, name), dtype=np.float64))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


def number_of(dataset: Any, name: str) -> float | None:
    """The number of a tag, or None if it is absent or not one number."""
    numbers = numbers_of(dataset, name, 1)
    return None if numbers is None else float(numbers[0])


def pixels_of(dataset: Any, name: str) -> np.ndarray:
    """One frame (H, W), float32, with the file's rescaling applied."""
    colours = value_of(dataset, "PhotometricInterpretation")
    if colours != "MONOCHROME2" or value_of(dataset, "SamplesPerPixel") not in (1, None):
        raise InputError(
            f"{name} is not a plain grey image ({brief(colours) if colours else 'kind not stated'}), "
            "perhaps a screenshot; give the original frames."
        )
    uids = import_optional("pydicom.uid", "imaging")
    syntax = value_of(dataset.file_meta, "TransferSyntaxUID")
    try:
        pixels = dataset.pixel_array
    except Exception as error:  # decoders and header checks raise many kinds
        if syntax in uids.AllTransferSyntaxes and syntax.is_compressed:
            raise InputError(
                f"{name} is compressed ({syntax.name}) and cannot be decoded here ({brief(error)}); install "
                "`pylibjpeg[all]`, or decompress the files first."
            ) from None
        raise InputError(
            f"{name} is truncated or damaged: its pixels cannot be read ({brief(error)}); copy it again."
        ) from None
    if pixels.ndim != 2:
        raise InputError(
            f"{name} holds pixels of shape {pixels.shape}, expected rows and columns; give single-frame grey images."
        )
    slope = number_of(dataset, "RescaleSlope") or 1.0
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(number_of(dataset, "RescaleIntercept") or 0.0)
