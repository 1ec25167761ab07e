"""Reports of runs: a page in HTML with everything in it, and a comparison of two."""
