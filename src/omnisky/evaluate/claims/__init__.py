"""Every claim of the papers beside what we measure: rows in `sources`, measurements in the other files, `table` joins."""
