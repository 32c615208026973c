"""Cohort preparation: pseudonyms, parallel and resumable preparation, redaction, report."""

TIME_LIMIT_S = 600.0  # of a subject; here, where the command line reads it without loading scipy
