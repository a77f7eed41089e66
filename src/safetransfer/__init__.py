"""Train under a safety constraint where mistakes are cheap, transfer to where they are dear."""

__version__ = "0.1.0"
