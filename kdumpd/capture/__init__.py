"""What runs in the capture kernel: an explicit sequence of steps under one time budget."""
