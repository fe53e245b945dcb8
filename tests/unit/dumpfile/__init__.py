"""Tests of the KDUMP writer, reader, verifier and of what `info` tells."""
