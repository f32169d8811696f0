"""Videos: choice of the take, the square crop, frames and audio at constant rates."""
