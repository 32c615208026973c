"""One scan onto the package's grid: view, heart, crop, resampling, intensities."""
