"""A page to watch videos with their detections and ground truth; one HTML file that opens from disk."""
