"""The encoding of a text from its first bytes. Light."""

import codecs

from timellm_cli.errors import DataError

HEAD_BYTES = 2**20
GUESSED_ENCODINGS = {"gb18030": "GBK (GB18030)", "cp1252": "Windows-1252"}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x89HDF": "an HDF5 file",
}
_FOREIGN_TEXTS = {
    b"<!doctype": "a web page", b"<html": "a web page", b"<?xml": "XML",
    b"{": "JSON", b"[{": "JSON", b"[[": "JSON",
}  # fmt: skip


def detect_encoding(head: bytes, name: str) -> str:
    """The encoding of a text that starts with `head`: by its BOM, else UTF-8, GB18030 (includes GBK) or Windows-1252.

    GB18030 decodes nearly any bytes: one degree sign of a Western file becomes a rare Chinese character. So it is
    chosen only where most of the characters are common ones (GB2312). Raises DataError for a file that is not text.
    """
    start = head[:256].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for magic, kind in (*_FOREIGN.items(), *_FOREIGN_TEXTS.items()):
        if head.startswith(magic) or (magic in _FOREIGN_TEXTS and start.startswith(magic)):
            raise DataError(f"{name} is {kind}, not a CSV", "export it as CSV text, then use that file")
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if b"\0" in head:
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros = head[offset::2]
            if zeros.count(0) > len(zeros) / 2 and head[1 - offset :: 2].count(0) == 0:
                return encoding
        raise DataError(f"{name} is a binary file, not a CSV", "export it as CSV text, then use that file")
    for encoding in ("utf-8", *GUESSED_ENCODINGS):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head, final=False)
        except UnicodeDecodeError:
            continue
        if encoding != "gb18030" or _looks_chinese(text):
            return encoding
    raise DataError(
        f"{name}: its encoding is not known",
        "UTF-8, UTF-16, GBK/GB18030 and Windows-1252 were tried; save the file as UTF-8",
    )


def decode_head(head: bytes, encoding: str) -> str:
    """The text of the first bytes, without a character or line that is cut off at the end."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head, final=False)
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] if len(head) == HEAD_BYTES else text


def _looks_chinese(text: str) -> bool:
    foreign = [character for character in text if not character.isascii()]
    common = "".join(foreign).encode("gb2312", errors="ignore").decode("gb2312")
    return len(common) * 2 > len(foreign)
