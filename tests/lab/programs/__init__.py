"""Programs that tests run inside a capture kernel: each has `main(arguments) -> result`, both as JSON has them.

They import kdumpd, the standard library, zstandard and one another (at the top of the file). What they write to /out
comes back as files.
"""
