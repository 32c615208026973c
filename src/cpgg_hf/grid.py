"""The default grid of every cine: 50 frames over one cardiac cycle, 96 x 96 pixels of 1.8 mm."""

NUM_FRAMES = 50
"""Frames over one heart beat; frame 0 is end diastole (R wave)."""
GRID_SIZE = 96
"""Rows and columns."""
SPACING_MM = 1.8
"""Pixel size in mm."""
BRIGHT_LEVEL = 0.9
"""Intensity of the 99th percentile of a normalised cine: leaves room for bright inflow and fat."""
