"""Hardware over the wire, from a record and from files."""
