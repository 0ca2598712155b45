"""Scenes as they are delivered: Sentinel-2 and Landsat folders, STAC items, files a band."""
