"""Class rasters to polygons, polygons to files. No torch in here."""
