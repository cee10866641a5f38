"""What is wrong with a query, and where."""

from __future__ import annotations


class TraceQLError(ValueError):
    """A text is not a query, or asks for what isn't supported; the text names it.

    Attributes:
        message: without the place.
        line: counted from 1.
        column: counted from 1, in characters.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"parse error at line {line}, col {column}: {message}")
        self.message = message
        self.line = line
        self.column = column
