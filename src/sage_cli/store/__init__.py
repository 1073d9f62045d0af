"""Models, caches and their folders on disk."""

from sage_cli.store.models import ModelFiles, NotInstalledError, find_model, find_speech_model
from sage_cli.store.paths import cache_dir, check_scratch, config_path, models_dir

__all__ = [
    "ModelFiles",
    "NotInstalledError",
    "cache_dir",
    "check_scratch",
    "config_path",
    "find_model",
    "find_speech_model",
    "models_dir",
]
