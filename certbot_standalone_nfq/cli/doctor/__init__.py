"""The doctor: checks everything that a validation needs."""
