"""Synthetic cines as DICOM: MR Image Storage (PS3.3 A.4), one file per frame, marked as synthetic.

Marks: Synthetic Data YES, a derived Image Type, this package as synthesizing equipment, Patient ID SYNTHETIC, series
and derivation descriptions, image comments, and Content Qualification RESEARCH (not for diagnosis).
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.errors import brief
from cpgg_hf.exports.checks import checked
from cpgg_hf.files.staging import staged_folder
from cpgg_hf.optional import import_optional
from cpgg_hf.plane import DEFAULT_SLICE_THICKNESS_MM, plane_of_affine
from cpgg_hf.version import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIX = "_dicom"
_FLOAT_BITS = 12  # as scanners store
_NAMESPACE = uuid.UUID("6c0f6a4e-2f0b-5c0e-9d5b-1f6b8a3f7c11")  # of this package's identifiers
_NOTE = "Synthetic image made by cpgg_hf: it shows no patient and is not for diagnosis."


def write_dicom(path: str | os.PathLike[str], cine: Cine, series_description: str = "Synthetic cine") -> Path:
    """Write a synthetic cine as a folder of MR images, `frame_0001.dcm` and on; it appears complete or not at all.

    Args:
        path: the folder; must be new or empty.
        cine: with square pixels: uint8 is stored as it is, float in 12 bits (1 becomes 4095), uint16 in scanner units
            as it is. Its seed gives the same identifiers (UIDs) to the same cine; without one they are random.
        series_description: 1 to 64 printable ASCII characters, no backslash.

    Raises:
        ValueError: an acquired cine, other scanner units than uint16, pixels that are not square, another
            series_description, or what `checked` refuses.
        OutputError: the folder has content or cannot be written.
        ImportError: pydicom is not installed.
    """
    with staged_folder(path) as partial:
        for number, dataset in enumerate(dicom_frames(cine, series_description), start=1):
            dataset.save_as(partial / f"frame_{number:04d}.dcm", enforce_file_format=True)
    return Path(path)


def dicom_frames(cine: Cine, series_description: str = "Synthetic cine") -> Iterator[Dataset]:
    """The frames that `write_dicom` writes, as pydicom data sets with file meta information; same arguments."""
    import_optional("pydicom", "imaging")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    cine = checked(cine)
    if cine.acquired:
        raise ValueError(f"{cine.origin} was acquired by a scanner; only synthetic cines are written as DICOM.")
    if not re.fullmatch(r"[ -\[\]-~]{1,64}", series_description):  # PS3.5 6.2, LO in the default character set
        raise ValueError(
            f"series_description must be 1 to 64 printable ASCII characters without a backslash, given "
            f"{brief(series_description)!r}."
        )
    pixels, bits = _stored_pixels(cine)
    spacing_mm, frame_time_ms, affine = cine.pixel_size_mm, cine.frame_time_ms, cine.affine
    thickness = DEFAULT_SLICE_THICKNESS_MM if cine.slice_thickness_mm is None else cine.slice_thickness_mm
    fingerprint = hashlib.sha256(pixels.tobytes())
    fingerprint.update(repr((pixels.shape, affine.tolist(), frame_time_ms, series_description)).encode())

    def uid(kind: str) -> str:
        random = cine.seed is None
        name = uuid.uuid4() if random else uuid.uuid5(_NAMESPACE, f"{cine.seed} {kind} {fingerprint.hexdigest()}")
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


def _stored_pixels(cine: Cine) -> tuple[np.ndarray, int]:
    """The stored pixels (T, H, W) uint16, and the number of bits in use."""
    if cine.pixels.dtype in (np.uint8, np.uint16):
        return cine.pixels.astype("<u2"), 8 * cine.pixels.dtype.itemsize
    if cine.scanner_units:
        raise ValueError(
            f"expected pixels of uint8, uint16 or float in [0, 1], given {cine.pixels.dtype} in scanner units."
        )
    pixels = cine.pixels.astype(np.result_type(cine.pixels, np.float32))  # float16 cannot hold 4095
    return np.round(pixels.clip(0, 1) * (2**_FLOAT_BITS - 1)).astype("<u2"), _FLOAT_BITS


def _synthetic_image() -> Any:
    """The attributes that all frames share; those that only a scan would fill are present but empty."""
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
    dataset.ContributingEquipmentSequence = [_synthesizing_equipment()]
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


def _synthesizing_equipment() -> Any:
    """This package as what made the image (PS3.3 C.12.1.1.5)."""
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = codes.DCM.SynthesizingEquipment[:3]
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer = equipment.ManufacturerModelName = "cpgg_hf"
    equipment.SoftwareVersions = __version__
    equipment.ContributionDescription = _NOTE
    return equipment


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
    """A number in at most 16 characters, as DICOM requires."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(number) + 0.0, auto_format=True)  # + 0.0: no minus sign before a zero
