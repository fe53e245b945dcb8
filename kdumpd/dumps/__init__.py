"""The dumps on the local targets: which there are, which go, and what was found after a crash."""
