"""Videos: exact times, the frame on screen at each sample time, crops for an image tower; see docs/video.md."""
