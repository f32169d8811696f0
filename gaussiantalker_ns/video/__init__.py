"""Reading pictures of any video: constant rate, orientation, range of brightness."""
