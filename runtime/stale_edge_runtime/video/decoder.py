"""A decoder that counts damage instead of stopping at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stale_edge_runtime.errors import BadDataError

if TYPE_CHECKING:
    from collections.abc import Iterator


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """Read the packets of a stream, and an empty one at the end that brings out what the decoder still holds."""
    from av import Packet

    ended = False
    try:
        for packet in container.demux(stream):
            ended = not packet.size
            yield packet
    except IndexError:  # PyAV's end of a transport stream in which other streams turned up on the way
        if not ended:
            yield Packet()


class Decoder:
    """Decodes packets one after the other.

    Args:
        name: Name of the video, for messages.
        codec: PyAV's codec context.
    """

    def __init__(self, name: str, codec: Any) -> None:
        self._name = name
        self._codec = codec
        self.frames_out = 0
        """Frames that came out so far."""
        self.damaged_frames = 0
        """Frames among them that FFmpeg marks as concealed, and packets that gave none."""
        self.reason = "nothing came out of the decoder"
        """Description of the last error."""

    def frames(self, packet: Any) -> Iterator[Any]:
        """Decode a packet; yield the frames that it brings out, none where it is damaged beyond use.

        Raises:
            BadDataError: The decoder ran out of memory.
        """
        import av

        try:
            found = self._codec.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except MemoryError as error:
            raise BadDataError(self._name, "needs more memory than there is for a frame", "shrink it first") from error
        except av.error.FFmpegError as error:
            self.damaged_frames += 1
            self.reason = error.strerror or str(error)
            return
        for frame in found:
            self.frames_out += 1
            self.damaged_frames += frame.is_corrupt
            yield frame
