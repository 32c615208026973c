"""From a scan to a cine on the package's grid: view, heart, crop, resampling, intensities."""
