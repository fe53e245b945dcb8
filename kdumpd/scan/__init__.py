"""Engines that decide for each page frame of the crashed kernel whether it is worth dumping."""
