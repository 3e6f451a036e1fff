"""The doctor: a look at everything a validation will need."""
