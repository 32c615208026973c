"""Whole cohorts: pseudonyms, parallel and resumable preparation, redaction, report."""
