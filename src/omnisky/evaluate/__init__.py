"""HOW GOOD IS IT: whole comparisons, run by one call, with error bars."""
