"""A stream of bytes cut into the blocks of Server-Sent Events (WHATWG HTML, 9.2.6)."""

import codecs
import re
from dataclasses import dataclass, field


@dataclass
class Block:
    """`place` and `retry_ms` are there only where the block itself has such a line."""

    name: str = ""
    data: list[str] = field(default_factory=list)
    place: str | None = None
    retry_ms: int | None = None


class Blocks:
    def __init__(self) -> None:
        # Keeps the beginning of a character whose rest comes with the next bytes; a BOM counts at the beginning only.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest, self._block = "", Block()

    def push(self, data: bytes) -> list[Block]:
        """Gives the blocks that these bytes complete. What is never completed is nobody's: neither its data nor its id counts."""
        # A CR at the end may be the first half of CR LF.
        *lines, self._rest = re.split(r"\r\n|\n|\r(?!\Z)", self._rest + self._decoder.decode(data))
        blocks = []
        for line in lines:
            if line:
                self._line(line)
                continue
            block, self._block = self._block, Block()
            if block != Block(name=block.name):
                blocks.append(block)
        return blocks

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        value, block = value.removeprefix(" "), self._block
        if name == "data":
            block.data.append(value)
        elif name == "event":
            block.name = value
        elif name == "id" and "\0" not in value:
            block.place = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            block.retry_ms = int(value)
