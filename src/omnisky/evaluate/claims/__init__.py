"""Every claim of the papers beside what we measure: rows in `sources`, the tasks in other files, `table` joins them."""
