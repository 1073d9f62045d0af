"""Video files: frames, sound and clips by presentation time. Knows nothing of models; needs no ffmpeg binary."""

from sage_cli.video.frame import Frame
from sage_cli.video.known import FrameTimes
from sage_cli.video.prefetch import FrameReader
from sage_cli.video.sampling import Sampling, fit_size, uniform_times
from sage_cli.video.video import SAMPLE_RATE, NoAudioError, Video

__all__ = ["SAMPLE_RATE", "Frame", "FrameReader", "FrameTimes", "NoAudioError", "Sampling", "Video", "fit_size", "uniform_times"]
