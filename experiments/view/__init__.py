"""Makes a page to look at of what a run wrote."""
