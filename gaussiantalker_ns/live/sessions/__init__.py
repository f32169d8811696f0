"""Sessions: sound in, sound and pictures out, on one clock that counts samples."""
