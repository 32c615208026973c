"""Synthetic cines as DICOM: MR Image Storage, one file a frame, marked so that nobody takes it for a patient.

The files follow the MR Image IOD (PS3.3 A.4). They say that they are synthetic in every place where a viewer, an
archive or a script may look: Synthetic Data YES, a derived Image Type, Patient ID SYNTHETIC, the series and
derivation descriptions, the image comments, and Content Qualification RESEARCH (not for diagnosis).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.files.staging import staged_folder
from cpgg_hf.optional import import_optional
from cpgg_hf.plane import DEFAULT_SLICE_THICKNESS_MM, affine_of_plane, plane_of_affine
from cpgg_hf.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

_FLOAT_BITS = 12  # as scanners store
_NAMESPACE = uuid.UUID("6c0f6a4e-2f0b-5c0e-9d5b-1f6b8a3f7c11")  # of this package's identifiers
_NOTE = "Synthetic image made by cpgg_hf: it shows no patient and is not for diagnosis."


def write_dicom_series(
    folder: str | os.PathLike[str],
    cine: np.ndarray,
    frame_time_ms: float,
    spacing_mm: float = 1.8,
    *,
    orientation: np.ndarray | None = None,
    position: np.ndarray | None = None,
    slice_thickness_mm: float | None = None,
    series_description: str = "Synthetic cine",
    seed: int | None = None,
) -> Path:
    """Write a synthetic cine as a folder of single-frame MR images, `frame_0001.dcm` and on; whole or not at all.

    Args:
        folder: must be new or empty.
        cine: (T, H, W): uint8 or uint16 (stored as they are), or float in [0, 1] (12 bits: 1 becomes 4095).
        frame_time_ms: time from one frame to the next; frame 0 is at the R wave and the frames fill the beat.
        spacing_mm: pixel size, the same along rows and columns.
        orientation: (6,) direction of a row, then of a column; by default a textbook four-chamber plane.
        position: (3,) centre of the first pixel in mm; by default the image's centre lies at the origin.
        slice_thickness_mm: by default 6 mm.
        series_description: at most 64 characters.
        seed: gives the same identifiers (UIDs) to the same cine; None draws new ones.

    Raises:
        ValueError: a wrong shape or range, or a spacing or frame time that is not positive.
        OutputError: the folder has content or cannot be written.
        ImportError: pydicom is not installed.
    """
    with staged_folder(folder) as partial:
        frames = dicom_frames(
            cine,
            frame_time_ms,
            spacing_mm,
            orientation=orientation,
            position=position,
            slice_thickness_mm=slice_thickness_mm,
            series_description=series_description,
            seed=seed,
        )
        for number, dataset in enumerate(frames, start=1):
            dataset.save_as(partial / f"frame_{number:04d}.dcm", enforce_file_format=True)
    return Path(folder)


def dicom_frames(
    cine: np.ndarray,
    frame_time_ms: float,
    spacing_mm: float = 1.8,
    *,
    orientation: np.ndarray | None = None,
    position: np.ndarray | None = None,
    slice_thickness_mm: float | None = None,
    series_description: str = "Synthetic cine",
    seed: int | None = None,
) -> Iterator[Dataset]:
    """The frames of `write_dicom_series` as pydicom data sets with their file meta information; same arguments."""
    import_optional("pydicom", "imaging")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    pixels, bits = _stored_pixels(cine)
    for name, value in (("spacing_mm", spacing_mm), ("frame_time_ms", frame_time_ms)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, given {value}.")
    thickness = DEFAULT_SLICE_THICKNESS_MM if slice_thickness_mm is None else slice_thickness_mm
    affine = affine_of_plane((spacing_mm, spacing_mm), orientation, position, thickness, pixels.shape[1:])
    fingerprint = hashlib.sha256(pixels.tobytes())
    fingerprint.update(repr((pixels.shape, affine.tolist(), frame_time_ms, series_description)).encode())

    def uid(kind: str) -> str:
        name = uuid.uuid4() if seed is None else uuid.uuid5(_NAMESPACE, f"{seed} {kind} {fingerprint.hexdigest()}")
        return f"2.25.{name.int}"  # PS3.5 B.2

    study, series, reference = uid("study"), uid("series"), uid("frame of reference")
    for index, frame in enumerate(pixels):
        dataset = _synthetic_image()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, reference
        dataset.SeriesDescription = series_description
        dataset.InstanceNumber = index + 1
        _set_beat(dataset, index, len(pixels), frame_time_ms)
        _set_plane(dataset, affine, spacing_mm, thickness)
        _set_pixels(dataset, frame, bits)
        dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, uid(f"frame {index}")
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        yield dataset


def _stored_pixels(cine: np.ndarray) -> tuple[np.ndarray, int]:
    """(T, H, W) uint16 as it is stored, and how many of its bits carry values."""
    cine = np.asarray(cine)
    if cine.ndim != 3:
        raise ValueError(f"a cine has three axes (T, H, W), given {cine.shape}; pass one cine at a time.")
    if cine.dtype in (np.uint8, np.uint16):
        return cine.astype("<u2"), 8 * cine.dtype.itemsize
    if not (np.issubdtype(cine.dtype, np.floating) and cine.min() >= 0 and cine.max() <= 1):
        raise ValueError(
            f"expected a cine of uint8, uint16 or float in [0, 1], given {cine.dtype} from {cine.min()} to "
            f"{cine.max()}; scale it first."
        )
    return np.round(cine * (2**_FLOAT_BITS - 1)).astype("<u2"), _FLOAT_BITS


def _synthetic_image() -> Any:
    """What is the same in every frame of every cine; what a scan would have and this has not is there, but empty."""
    from pydicom import Dataset

    dataset = Dataset()
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
    dataset.SyntheticData = "YES"
    dataset.DerivationDescription = _NOTE
    dataset.ImageComments = _NOTE
    dataset.ContentQualification = "RESEARCH"
    dataset.PatientName = "SYNTHETIC^CINE"
    dataset.PatientID = "SYNTHETIC"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic: there never was a patient"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.StudyDescription = "Synthetic cardiac MR"
    dataset.Modality = "MR"
    dataset.BodyPartExamined = "HEART"
    dataset.PatientPosition = "HFS"
    dataset.SeriesNumber = 1
    dataset.Manufacturer = dataset.ManufacturerModelName = "cpgg_hf"
    dataset.SoftwareVersions = __version__
    dataset.ScanningSequence = "RM"  # research mode: no pulse sequence was run
    dataset.SequenceVariant = "NONE"
    dataset.ScanOptions = "CG"  # cardiac gating: trigger times are for gated images only
    dataset.MRAcquisitionType = "2D"
    for keyword in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "ContentDate", "ContentTime", "PositionReferenceIndicator"),
        *("RepetitionTime", "EchoTime", "EchoTrainLength"),
    ):
        setattr(dataset, keyword, None)
    return dataset


def _set_beat(dataset: Any, index: int, num_frames: int, frame_time_ms: float) -> None:
    rr_ms = num_frames * frame_time_ms
    dataset.TriggerTime = _decimal(index * frame_time_ms)
    dataset.NominalInterval = round(rr_ms)
    dataset.HeartRate = round(60000 / rr_ms)
    dataset.CardiacNumberOfImages = num_frames


def _set_plane(dataset: Any, affine: np.ndarray, spacing_mm: float, thickness_mm: float) -> None:
    orientation, position = plane_of_affine(affine)
    dataset.ImageOrientationPatient = [_decimal(number) for number in orientation]
    dataset.ImagePositionPatient = [_decimal(number) for number in position]
    dataset.PixelSpacing = [_decimal(spacing_mm)] * 2
    dataset.SliceThickness = _decimal(thickness_mm)


def _set_pixels(dataset: Any, frame: np.ndarray, bits: int) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = frame.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    # The whole range, so that every viewer shows the same grey.
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    dataset.PixelData = frame.tobytes()


def _decimal(number: float) -> Any:
    """A number in the 16 characters that DICOM gives it."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(number) + 0.0, auto_format=True)  # + 0.0: no minus sign before a zero
