"""The 82 cardiac phenotypes: schema, tables in and out, identities. Imports only numpy.

Every interface of the package uses physical units and these names; NaN is a missing value.
"""

from cpgg_hf.errors import PhenotypeError
from cpgg_hf.phenotypes.identities import (
    DERIVED_INDICES,
    complete_identities,
    enforce_identities,
    heart_rate,
    identity_residuals,
    pulse_pressure,
)
from cpgg_hf.phenotypes.schema import (
    LATERAL_SEGMENTS,
    NAMES,
    PHENOTYPES,
    SEPTAL_SEGMENTS,
    Phenotype,
    phenotype_index,
)
from cpgg_hf.phenotypes.tables import as_array, as_frame, read_csv, row_names, write_csv

__all__ = [
    "DERIVED_INDICES",
    "LATERAL_SEGMENTS",
    "NAMES",
    "PHENOTYPES",
    "SEPTAL_SEGMENTS",
    "Phenotype",
    "PhenotypeError",
    "as_array",
    "as_frame",
    "complete_identities",
    "enforce_identities",
    "heart_rate",
    "identity_residuals",
    "phenotype_index",
    "pulse_pressure",
    "read_csv",
    "row_names",
    "write_csv",
]
