"""Mutated DICOM series: elements of one file or of all, their values, lengths, kinds, places; files that lack."""

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from dicom_files import FOUR_CHAMBER, SHORT_AXIS, write_dicom_series, write_enhanced

from .byte_mutations import ODD_TEXTS, damaged, odd_integer

_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}
_VRS = [*sorted(_LONG), b"AS", b"CS", b"DS", b"FD", b"IS", b"LO", b"PN", b"SL", b"UI", b"UL", b"US", b"??"]
_SYNTAXES = [
    *("ExplicitVRBigEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian", "RLELossless", "JPEG2000"),
    *("JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless", "MPEG2MPML", "HTJ2K"),
]
# What decides how a file is read is changed more often than the rest.
_DECISIVE = {
    *((0x0008, 0x0016), (0x0018, 0x0050), (0x0018, 0x1060), (0x0018, 0x1062), (0x0020, 0x000E), (0x0020, 0x0013)),
    *((0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0002), (0x0028, 0x0004), (0x0028, 0x0010), (0x0028, 0x0011)),
    *((0x0028, 0x0030), (0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102), (0x0028, 0x0103), (0x0028, 0x1052)),
    *((0x0028, 0x0008), (0x0028, 0x1053), (0x7FE0, 0x0010)),
}


@dataclass(frozen=True)
class Element:
    """An element of a file in explicit little-endian form: bytes `start` to `end`, the value from `value` on."""

    tag: tuple[int, int]
    vr: bytes
    start: int
    value: int
    end: int


def beating_disc() -> np.ndarray:
    """8 frames of 24 x 24 pixels, to be 4 mm each."""
    rows, columns = np.mgrid[:24, :24] - 11.5
    radius = 6 + 2 * np.cos(2 * np.pi * np.arange(8) / 8)
    disc = 1 / (1 + np.exp(np.hypot(rows, columns)[None] - radius[:, None, None]))
    return 20 + 900 * disc + np.random.default_rng(0).integers(0, 20, (8, 24, 24))


def sound_series(folder: Path) -> dict[str, list[bytes]]:
    """Series that can be read, in several forms; the files of each."""

    def form(change, cine=None, **details):
        def add(index, dataset):
            dataset.RescaleSlope, dataset.RescaleIntercept, dataset.NumberOfFrames = 1, 0, 1
            change(dataset)

        place = folder / str(len(forms))
        cine = beating_disc() if cine is None else cine
        paths = write_dicom_series(place, cine, spacing=(4.0, 4.0), series_uid="1.2.3", change=add, **details)
        return [path.read_bytes() for path in paths]

    def syntax(name):
        return lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", getattr(pydicom.uid, name))

    def packed(name):
        return lambda dataset: dataset.compress(getattr(pydicom.uid, name), generate_instance_uid=False)

    def signed(dataset):
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, -1024

    def untimed(dataset):
        del dataset.TriggerTime

    forms: dict[str, list[bytes]] = {}
    forms["plain"] = form(lambda dataset: None)
    forms["untimed"] = form(untimed)
    forms["signed"] = form(signed)
    forms["high"] = form(lambda dataset: None, beating_disc() * 65)  # beyond int16
    forms["short axis"] = form(lambda dataset: None, orientation=SHORT_AXIS)
    forms["implicit"] = form(syntax("ImplicitVRLittleEndian"))
    forms["RLE"] = form(packed("RLELossless"))
    times, positions = np.arange(8) * 112.5, [(-120.0, -60.0, 40.0)] * 8
    path = folder / "enhanced/image.dcm"
    write_enhanced(path, beating_disc(), times=times, positions=positions, spacing=(4.0, 4.0))
    forms["enhanced"] = [path.read_bytes()]
    forms["no preamble"] = [content[132:] for content in forms["plain"]]
    forms["JPEG 2000"] = form(packed("JPEG2000Lossless"), np.repeat(np.repeat(beating_disc(), 2, 1), 2, 2))
    return forms


def mutated_series(forms: dict[str, list[bytes]], draw: random.Random) -> list[bytes]:
    """The files of a series with one to three faults, in one of them or alike in all."""
    kinds = list(forms)
    files = list(forms[draw.choice(kinds[:1] * 6 + kinds)])
    if draw.random() < 0.1:
        return _series_fault(files, draw)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        one, fault = draw.randrange(len(files)), draw.getrandbits(64)
        chosen = range(len(files)) if draw.random() < 0.5 else [one]
        for index in chosen:
            files[index] = mutated_file(files[index], random.Random(fault))
    return files


def mutated_file(content: bytes, draw: random.Random) -> bytes:
    """A file with one fault; the same one for the same state of `draw` in files of the same form."""
    try:
        elements = list(_elements(content))
    except (struct.error, ValueError):
        elements = []
    kind = draw.random()
    if not elements or kind < 0.15:
        return damaged(content, draw, draw.choice([132, 400, 1200, len(content)]))
    decisive = [element for element in elements if element.tag in _DECISIVE]
    element = draw.choice(decisive if decisive and draw.random() < 0.75 else elements)
    fault = draw.choice([_value, _value, _value, _length, _vr, _without, _twice, _elsewhere, _syntax, _pixels])
    return fault(content, element, elements, draw)


def _series_fault(files: list[bytes], draw: random.Random) -> list[bytes]:
    kind = draw.randrange(5)
    if kind == 0:
        del files[draw.randrange(len(files)) :]
    elif kind == 1:
        files.append(draw.choice(files))
    elif kind == 2:
        files.append(draw.choice([b"", b"text", b"\0" * 500, b"DICM" * 50, b"\0" * 128 + b"DICM"]))
    elif kind == 3:
        files[draw.randrange(len(files))] = b""
    else:
        files = files * draw.choice([2, 8])
    return files


def _elements(content: bytes) -> list[Element]:
    elements, place = [], 132 if content[128:132] == b"DICM" else 0
    while place < len(content):
        group, number, vr = struct.unpack_from("<HH2s", content, place)
        if vr in _LONG:
            (length,), value = struct.unpack_from("<I", content, place + 8), place + 12
        else:
            (length,), value = struct.unpack_from("<H", content, place + 6), place + 8
        end = min(value + length, len(content))  # also where the length is not defined
        elements.append(Element((group, number), vr, place, value, end))
        place = end
    return elements


def _value(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    if element.tag == (0x7FE0, 0x0010):
        return _pixels(content, element, elements, draw)
    if element.vr in (b"US", b"SS", b"UL", b"SL"):
        value = odd_integer(draw, (element.end - element.value) or 2)
    elif element.tag == (0x0020, 0x0037) and draw.random() < 0.5:
        scale = draw.choice([1.0, 1.0, 0.0, 1e-3, 1e200, float("nan")])
        value = "\\".join(f"{scale * one * draw.choice([1, 1, 1, -1]):.4g}" for one in FOUR_CHAMBER).encode()
    else:
        value = draw.choice(ODD_TEXTS).encode()
    value += b" " * (len(value) % 2)
    form = "<I" if element.vr in _LONG else "<H"
    size = struct.calcsize(form)
    return content[: element.value - size] + struct.pack(form, len(value)) + value + content[element.end :]


def _length(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    size = 4 if element.vr in _LONG else 2
    return content[: element.value - size] + odd_integer(draw, size) + content[element.value :]


def _vr(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    return content[: element.start + 4] + draw.choice(_VRS) + content[element.start + 6 :]


def _without(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    return content[: element.start] + content[element.end :]


def _twice(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    return content[: element.end] + content[element.start :]


def _elsewhere(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    """The element under the tag of another one."""
    tag = struct.pack("<HH", *draw.choice(elements).tag)
    return content[: element.start] + tag + content[element.start + 4 :]


def _syntax(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    """The file says of itself that it is stored in another way."""
    place = next((one for one in elements if one.tag == (0x0002, 0x0010)), element)
    value = draw.choice([getattr(pydicom.uid, draw.choice(_SYNTAXES)), "1.2.3.4", ""]).encode()
    value += b"\0" * (len(value) % 2)
    return content[: place.value - 2] + struct.pack("<H", len(value)) + value + content[place.end :]


def _pixels(content: bytes, element: Element, elements: list[Element], draw: random.Random) -> bytes:
    last = elements[-1]
    size = last.end - last.value
    match draw.randrange(6):
        case 0:
            pixels = bytes(size)
        case 1:
            pixels = b"\xff" * size
        case 2:
            pixels = draw.randbytes(size)
        case 3:
            pixels = content[last.value : last.value + draw.randrange(size + 1)]
        case 4:
            pixels = content[last.value : last.end] * 2
        case _:
            pixels = damaged(content[last.value : last.end], draw, size)
    return content[: last.value - 4] + struct.pack("<I", len(pixels)) + pixels
