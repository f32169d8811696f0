"""Reading of talking-head data sets: layout on disk, cameras, initial points, the data parser."""
