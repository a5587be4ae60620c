"""The line: its stations in order, each resumable, in the folder of a run."""
