"""Writes DICOM cine series and Enhanced MR files with a given geometry, for the tests of readers."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

# A plane tilted as four-chamber planes are, and a short-axis plane of the same heart: rows, then columns.
FOUR_CHAMBER = (1.0, 0.0, 0.0, 0.0, 0.7660444, 0.6427876)
SHORT_AXIS = (0.7071068, 0.7071068, 0.0, -0.3319592, 0.3319592, -0.8829476)
PATIENT = "Doe^Jane"


def write_dicom_series(
    folder: Path,
    cine: np.ndarray,
    *,
    spacing: tuple[float, float] = (1.4, 1.4),
    orientation: tuple[float, ...] = FOUR_CHAMBER,
    position: tuple[float, float, float] = (-120.0, -60.0, 40.0),
    times: np.ndarray | None = None,
    rr_ms: float = 900.0,
    series_uid: str | None = None,
    description: str = "cine 4ch",
    prefix: str = "image",
    change=lambda index, dataset: None,
) -> list[Path]:
    """Writes one file a frame; file names do not sort in the order of time. `change` may alter each data set."""
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(len(cine)) * rr_ms / len(cine) if times is None else times
    series_uid = series_uid or generate_uid()
    paths = []
    for index, frame in enumerate(np.asarray(cine, dtype=np.uint16)):
        path = folder / f"{prefix}{(index * 7) % 101:03d}.dcm"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.PatientName = PATIENT
        dataset.PatientID = "1234567"
        dataset.Modality = "MR"
        dataset.SeriesDescription = description
        dataset.SeriesInstanceUID = series_uid
        dataset.InstanceNumber = index + 1
        dataset.TriggerTime = float(times[index])
        dataset.NominalInterval = round(rr_ms)
        dataset.PixelSpacing = list(spacing)
        dataset.SliceThickness = 6.0
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = list(position)
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = frame.shape
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = frame.tobytes()
        change(index, dataset)
        dataset.save_as(path)
        paths.append(path)
    return paths


def write_enhanced(
    path: Path,
    cine: np.ndarray,
    *,
    times: np.ndarray,
    positions: np.ndarray,
    frame_types: list[list[str]] | None = None,
    spacing: tuple[float, float] = (1.4, 1.4),
    change=lambda dataset: None,
) -> Path:
    """Writes an Enhanced MR file (PS3.3 A.36) of the frames (N, H, W), each with its trigger delay and position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cine = np.asarray(cine, dtype=np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedMRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "MR", generate_uid(), 7
    dataset.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=[_item(ImageOrientationPatient=list(FOUR_CHAMBER))],
            PixelMeasuresSequence=[_item(SliceThickness=6.0, PixelSpacing=list(spacing))],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            CardiacSynchronizationSequence=[_item(NominalCardiacTriggerDelayTime=float(time))],
            PlanePositionSequence=[_item(ImagePositionPatient=[float(one) for one in position])],
            PixelValueTransformationSequence=[_item(RescaleSlope=2, RescaleIntercept=-10, RescaleType="US")],
            **({} if frame_types is None else {"MRImageFrameTypeSequence": [_item(FrameType=frame_types[index])]}),
        )
        for index, (time, position) in enumerate(zip(times, positions, strict=True))
    ]
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = cine.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = cine.tobytes()
    change(dataset)
    dataset.save_as(path)
    return path


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
