"""The grid on which every cine of the package lies by default (DESIGN: 50 frames over one beat, 96 x 96 pixels)."""

NUM_FRAMES = 50
"""Frames over one heart beat; frame 0 is end diastole (R wave)."""
GRID_SIZE = 96
"""Rows and columns."""
SPACING_MM = 1.8
"""Pixel size in mm."""
