"""GPT-2's spelling of bytes as printable characters, in which vocab.json and merges are written."""


def byte_characters() -> dict[int, str]:
    """Map each byte to a character: printable Latin-1 to itself, the rest to U+0100 on, in order.

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
