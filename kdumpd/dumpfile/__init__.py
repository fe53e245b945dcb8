"""The KDUMP format: declared structures, writer, reader, verifier."""
