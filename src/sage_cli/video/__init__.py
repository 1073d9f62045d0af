"""Video files: frames, sound and clips by presentation time. Knows nothing of models; needs no ffmpeg binary."""

from sage_cli.errors import loading

with loading("av"):
    import av  # noqa: F401  (here first: whatever imports them later has imported this package)
with loading("opencv-python-headless"):
    import cv2  # noqa: F401

from sage_cli.video.cached import DamageCache, FrameTimeCache
from sage_cli.video.frame import Frame
from sage_cli.video.media import MediaNotice
from sage_cli.video.prefetch import FrameReader
from sage_cli.video.sampling import Sampling, fit_size, uniform_times
from sage_cli.video.video import SAMPLE_RATE, NoAudioError, SilentError, Video, no_speech

__all__ = [
    "SAMPLE_RATE",
    "DamageCache",
    "Frame",
    "FrameReader",
    "FrameTimeCache",
    "MediaNotice",
    "NoAudioError",
    "Sampling",
    "SilentError",
    "Video",
    "fit_size",
    "no_speech",
    "uniform_times",
]
