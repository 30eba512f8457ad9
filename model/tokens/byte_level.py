"""GPT-2's spelling of bytes as printable characters, used in vocab.json and merges."""


def byte_characters() -> dict[int, str]:
    """Map each byte to a character: printable Latin-1 to itself, the rest to U+0100 on, in order.

    A blank, byte 0x20, is the 33rd that is not printable here, so it becomes U+0120, `Ġ`.
    Source: `bytes_to_unicode` in openai/gpt-2, encoder.py.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = (byte for byte in range(256) if byte not in printable)
    spelled = {byte: chr(256 + index) for index, byte in enumerate(others)}
    return {byte: spelled.get(byte, chr(byte)) for byte in range(256)}
