"""The images in DICOM files: single-frame files, and the frames of Enhanced MR (PS3.3 C.7.6.16), with flat headers."""

import io
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cpgg_hf.errors import InputError, brief
from cpgg_hf.optional import import_optional
from cpgg_hf.scans.dicom_values import number_of, texts_of, value_of
from cpgg_hf.scans.files import starts_as_dicom

_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 1024  # the file meta information, which names the transfer syntax, ends well before
# Names in the functional groups of Enhanced MR, and in single-frame MR.
_SINGLE_FRAME_NAMES = {
    "ActualCardiacTriggerDelayTime": "TriggerTime",
    "NominalCardiacTriggerDelayTime": "TriggerTime",
    "RRIntervalTimeNominal": "NominalInterval",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameType": "ImageType",
}
_FUNCTIONAL_GROUPS = 0x52000000  # these and the pixels come after every other value
_OTHER_COMPONENTS = ("P", "R", "I", "PHASE", "REAL", "IMAGINARY")

# A file's name in messages, and its path or a seekable stream.
DicomFile = tuple[str, Path | IO[bytes]]


@dataclass(frozen=True)
class DicomImage:
    """One frame.

    Attributes:
        name: its file's name in messages.
        header: its values under the names of single-frame MR.
        file: the data set of its file, which holds the pixels.
        frame: its index in a multi-frame file; None in a single-frame one.
    """

    name: str
    header: Any
    file: Any
    frame: int | None = None


def read_images(
    files: Iterable[DicomFile], origin: str, *, skip_damaged: bool = False
) -> tuple[list[DicomImage], list[str]]:
    """The magnitude MR images of files, and notes on what was left out.

    Args:
        files: see `DicomFile`.
        origin: their folder or archive, for messages.
        skip_damaged: whether to leave out damaged files instead of refusing them.

    Raises:
        InputError: no such images, or a damaged file.
    """
    images: list[DicomImage] = []
    skipped: Counter[str] = Counter()
    for name, source in files:
        try:
            dataset = read_dataset(name, source)
            if dataset is None:
                skipped["files that are not DICOM"] += 1
            elif "PixelData" not in dataset:
                _check_not_cut_off(dataset, name)
                skipped["DICOM files without an image"] += 1
            else:
                images += _frames_of(dataset, name)
        except InputError:
            if not skip_damaged:
                raise
            skipped["damaged files"] += 1
    if not images:
        found = "; ".join(f"{kind}: {number}" for kind, number in skipped.items()) or "it is empty"
        raise InputError(
            f"{origin} holds no DICOM images ({found}); give the folder that holds the frames of one cine."
        )
    notes = [f"{origin}: {number} {kind} were skipped." for kind, number in skipped.items()]
    of_mr = [image for image in images if value_of(image.header, "Modality") in ("MR", "", None)]
    if not of_mr:
        modality = brief(value_of(images[0].header, "Modality"))
        raise InputError(f"{origin} holds images of the Modality {modality}, expected MR; give the cine MRI series.")
    if len(of_mr) < len(images):
        notes.append(f"{origin}: {len(images) - len(of_mr)} images of another Modality than MR were skipped.")
    magnitude = [image for image in of_mr if _is_magnitude(image.header)]
    if not magnitude:
        kind = brief("/".join(texts_of(of_mr[0].header, "ImageType")))
        raise InputError(f"{origin} holds phase images only (ImageType {kind}); give the magnitude images.")
    if len(magnitude) < len(of_mr):
        notes.append(f"{origin}: {len(of_mr) - len(magnitude)} phase images (by ImageType) were left out.")
    return magnitude, notes


def read_dataset(name: str, source: Path | IO[bytes], **options: Any) -> Any | None:
    """One DICOM file as a pydicom data set; None if it is not DICOM.

    Args:
        name: the file's name in messages.
        source: its path or stream.
        options: options of `pydicom.dcmread`.

    Raises:
        InputError: the file is damaged.
    """
    pydicom = import_optional("pydicom", "imaging")
    try:
        with _BoundedReader(source) if isinstance(source, Path) else nullcontext(source) as stream:
            start = stream.read(_META_BYTES)
            stream.seek(0)
            deflated = _DEFLATED in start
            dataset: Any = None if deflated else pydicom.dcmread(stream, force=starts_as_dicom(start), **options)
    except pydicom.errors.InvalidDicomError:
        if name.lower().endswith(_DICOM_SUFFIXES):
            raise InputError(
                f"{name} is not a DICOM file, or its start is missing; copy it again, or remove it."
            ) from None
        return None
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise InputError(f"{name} is damaged ({brief(error)}); copy it again, or remove it.") from None
    if deflated:
        raise InputError(f"{name} is deflated, so its uncompressed size is unknown; decompress it first.")
    if "TransferSyntaxUID" not in dataset.file_meta:  # no preamble, so pydicom judged by the first element
        implicit, little_endian = dataset.original_encoding
        uids = import_optional("pydicom.uid", "imaging")
        explicit = uids.ExplicitVRLittleEndian if little_endian else uids.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else explicit
    return dataset


def pixels_of(image: DicomImage) -> np.ndarray:
    """One frame (H, W), float32, bright where the scanner shows it bright, with the rescaling applied.

    Raises:
        InputError: colours, a damaged file, or a compression that cannot be decoded here.
    """
    dataset, name = image.file, image.name
    colours = value_of(dataset, "PhotometricInterpretation")
    if colours not in ("MONOCHROME1", "MONOCHROME2") or value_of(dataset, "SamplesPerPixel") not in (1, None):
        raise InputError(
            f"{name} is not a plain grey image ({brief(colours) if colours else 'kind not stated'}), "
            "perhaps a screenshot; give the original frames."
        )
    uids, pydicom_pixels = import_optional("pydicom.uid", "imaging"), import_optional("pydicom.pixels", "imaging")
    syntax = value_of(dataset.file_meta, "TransferSyntaxUID")
    try:
        pixels = pydicom_pixels.pixel_array(dataset, index=image.frame)
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
    pixels = pixels.astype(np.float32)
    if colours == "MONOCHROME1":  # the lowest value is white
        highest = -1 if dataset.PixelRepresentation == 1 else 2**dataset.BitsStored - 1
        pixels = np.float32(highest) - pixels
    slope = number_of(image.header, "RescaleSlope") or 1.0
    return pixels * np.float32(slope) + np.float32(number_of(image.header, "RescaleIntercept") or 0.0)


class _BoundedReader(io.BufferedReader):
    """A file that is never read beyond its end: a damaged length must not exhaust the memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _check_not_cut_off(dataset: Any, name: str) -> None:
    """Pydicom reads a file that ends too early up to its end without complaint."""
    kind = getattr(value_of(dataset.file_meta, "MediaStorageSOPClassUID"), "name", "")
    if "Rows" in dataset or "Image" in kind:
        raise InputError(f"{name} is cut off: it ends before its pixels; copy it again.")


def _frames_of(dataset: Any, name: str) -> list[DicomImage]:
    """The frames of a file, with the values of their functional groups."""
    num_frames = number_of(dataset, "NumberOfFrames")
    groups = value_of(dataset, "PerFrameFunctionalGroupsSequence")
    num_described = len(groups) if isinstance(groups, import_optional("pydicom", "imaging").Sequence) else 0
    if num_frames is None or (num_frames <= 1 and not num_described):
        return [DicomImage(name, dataset, dataset)]
    if not num_described:
        raise InputError(
            f"{name} holds {num_frames:.0f} frames in one file without their times and places (no functional groups), "
            "expected single-frame files or Enhanced MR; export it again, or convert it to NIfTI."
        )
    if num_frames != num_described:
        raise InputError(
            f"{name} states {num_frames:.0f} frames and describes {num_described}; it is damaged, export it again."
        )
    shared = value_of(dataset, "SharedFunctionalGroupsSequence") or []
    try:
        return [
            DicomImage(name, _flat_header(dataset, [*shared[:1], group]), dataset, index)
            for index, group in enumerate(groups)
        ]
    except Exception as error:  # damaged elements raise many kinds
        raise InputError(f"{name} is damaged ({brief(error)}); copy it again, or remove it.") from None


def _flat_header(dataset: Any, groups: list[Any]) -> Any:
    """The file's own values and those of its functional groups, without private ones."""
    pydicom = import_optional("pydicom", "imaging")
    header = pydicom.Dataset()
    own = [tag for tag in dataset.keys() if tag < _FUNCTIONAL_GROUPS]  # noqa: SIM118, a data set is no dict
    header.update({tag: dataset.get_item(tag) for tag in own})  # not converted: what is damaged may not matter
    for group in groups:
        for sequence in group:
            if sequence.VR == "SQ" and not sequence.tag.is_private:
                header.update({element.tag: element for item in sequence.value[:1] for element in item})
    for name, single_frame_name in _SINGLE_FRAME_NAMES.items():
        if name in header:
            setattr(header, single_frame_name, header[name].value)
    return header


def _is_magnitude(header: Any) -> bool:
    component = value_of(header, "ComplexImageComponent")
    words = texts_of(header, "ImageType")[2:]  # the first two say who made the image
    return component not in _OTHER_COMPONENTS and not any(
        word in _OTHER_COMPONENTS or word.startswith(("PHASE", "VELOCITY")) for word in words
    )
