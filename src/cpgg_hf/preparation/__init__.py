"""From scans, collections and phantoms to data sets on the package's grid."""
