"""A cine as MP4: every frame once, at its own time."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from cpgg_hf.cine import Cine
from cpgg_hf.exports.video import video_frames
from cpgg_hf.files.staging import staged_file
from cpgg_hf.optional import import_optional

SUFFIX = ".mp4"
_TICKS_PER_SECOND = 90_000  # the clock of MPEG
_QUALITY = "12"  # x264's constant rate factor: no visible difference


def write_mp4(path: str | os.PathLike[str], cine: Cine) -> Path:
    """Write one beat of a cine as H.264, which is lossy: for exact values use NIfTI, DICOM or npz.

    Times are exact to 1/90 ms.

    Raises:
        ImportError: PyAV is not installed.
    """
    av = import_optional("av", "video")
    frames, frame_time_ms = video_frames(cine)
    ticks = np.round(np.arange(len(frames)) * frame_time_ms * _TICKS_PER_SECOND / 1000).astype(int)
    path = Path(path)
    with staged_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", options={"crf": _QUALITY})
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        for pixels, tick in zip(frames, ticks.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="gray")
            frame.pts, frame.time_base = tick, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
