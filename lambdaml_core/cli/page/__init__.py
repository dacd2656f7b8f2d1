"""Pages to look at in a browser: one HTML file each, with everything in it, that loads nothing from anywhere."""
