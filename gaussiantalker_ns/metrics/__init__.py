"""Metrics of image quality and lip motion, one family per module; `registry` lists them."""
