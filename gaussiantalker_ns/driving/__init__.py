"""What a driven video needs besides the talker: motion, blinks, files with sound, provenance."""
