"""The commands of the command line: each parses, calls one verb and prints."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""
