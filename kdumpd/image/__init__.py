"""The capture image: what goes into it, and dracut to build it."""
