"""The summary of a run, its figures and its report page."""
