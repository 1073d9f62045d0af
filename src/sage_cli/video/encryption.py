"""Finds encrypted streams. FFmpeg reports encryption for MP4 only; it drops scrambled packets of MPEG-TS, and decodes noise elsewhere."""

from __future__ import annotations

import re
from typing import Final

from sage_cli.video.source import MediaFile

_HEAD: Final = 4 << 20  # bytes of a file that are examined
_SHARE: Final = 0.05  # of scrambled packets, above which a stream counts as encrypted: DVDs leave half of them clear

# ASF's Content Encryption Object and Extended Content Encryption Object.
_ASF: Final = (bytes.fromhex("fbb31122 23bd d211 b4b7 00a0c955fc6e"), bytes.fromhex("14e68a29 2226 174c b935 dae07ee9289c"))

# MPEG-TS packets: their size, and where the first one begins (plain, with time codes, with error correction).
_TS_PACKETS: Final = ((188, 0), (192, 4), (204, 0))
_TS_SYNC: Final = 0x47

# A packet of MPEG-PS: the stream number and, after the length, the byte with the two scrambling bits (ISO/IEC 13818-1, 2.4.3.7).
_PES: Final = re.compile(rb"\x00\x00\x01([\xbd\xc0-\xef])..([\x80-\xbf])", re.DOTALL)
_PES_SCRAMBLED: Final = 0x30
_PRIVATE: Final = 0xBD  # the stream of all audio that is not MPEG audio


def is_encrypted(file: MediaFile, index: int) -> bool:
    """Whether the container marks a stream as encrypted, in its header or in the first packets of the stream."""
    stream = file.stream(index)
    if "enc_key_id" in stream.metadata:  # Matroska
        return True
    match file.container.format.name:
        case "asf":
            head = file.source.peek(0, _HEAD)
            return any(mark in head for mark in _ASF)
        case "mpegts":
            return _is_scrambled_ts(file.source.peek(0, _HEAD), int(stream.id))
        case "mpeg":
            number = int(stream.id) & 0xFF
            return _is_scrambled_ps(file.source.peek(0, _HEAD), number if number >= 0xC0 else _PRIVATE)
    return False


def _is_scrambled_ts(head: bytes, pid: int) -> bool:
    for size, begin in _TS_PACKETS:
        packets = [head[at : at + 4] for at in range(begin, len(head) - 3, size)]
        if packets and all(packet[0] == _TS_SYNC for packet in packets[:8]):
            own = [packet[3] for packet in packets if packet[0] == _TS_SYNC and int.from_bytes(packet[1:3], "big") & 0x1FFF == pid]
            scrambled = sum(byte >> 6 != 0 for byte in own)
            return scrambled > _SHARE * len(own)
    return False


def _is_scrambled_ps(head: bytes, number: int) -> bool:
    own: list[int] = [flags[0] for stream, flags in _PES.findall(head) if stream[0] == number]
    scrambled = sum(byte & _PES_SCRAMBLED != 0 for byte in own)
    return scrambled > _SHARE * len(own)
