"""DICOM, NIfTI and zip files read as cines."""
