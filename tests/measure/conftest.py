from phantom_subjects import exact_coverage, subjects

__all__ = ["exact_coverage", "subjects"]
