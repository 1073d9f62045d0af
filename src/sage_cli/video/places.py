"""Where in a file each moment of a stream is stored."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from fractions import Fraction
from typing import Any, Final

from av.packet import Packet

from sage_cli.video.source import packet_time

_STEP: Final = Fraction(1, 10)  # seconds from one packet that is kept to the next
_TOLERANCE: Final = Fraction(1, 10)  # seconds


class Places:
    """The times of a stream's packets by their places in the file, from reading them in order.

    After a seek, many demuxers compute the times of packets (WAV and AVI from a byte rate that is not the real one, for example), and that
    they computed the requested time proves nothing.
    """

    def __init__(self, base: Fraction) -> None:
        self._base, self._step = base, max(1, round(_STEP / base))
        self._places, self._times = array("q"), array("q")

    def add(self, place: int | None, ticks: int) -> None:
        """Note a packet."""
        if place is None or place < 0 or (self._places and (place <= self._places[-1] or ticks < self._times[-1] + self._step)):
            return
        self._places.append(place)
        self._times.append(ticks)

    @property
    def last(self) -> int:
        """The last one."""
        return self._places[-1] if self._places else 0

    def contradict(self, packet: Packet[Any]) -> bool:
        """Whether the packet's time cannot be right."""
        time, place = packet_time(packet), packet.pos
        if time is None or place is None or place < 0 or not self._places:
            return False
        after = bisect_right(self._places, place)
        earliest = self._times[max(0, after - 1)] * self._base - _TOLERANCE
        latest = self._times[after] * self._base + _TOLERANCE if after < len(self._times) else None
        return time < earliest or (latest is not None and time > latest)
