"""Why a validation failed: what was seen, what the CA says, and the words for both. Pure."""
