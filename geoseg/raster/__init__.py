"""Pixels in, pixels out: scenes, chips, stitching and GeoTIFFs. No torch in here."""
