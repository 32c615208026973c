"""Cines as files: NIfTI, DICOM, GIF, WebP, MP4, npz and sheets of frames."""
