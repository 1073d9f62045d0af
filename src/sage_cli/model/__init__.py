"""Vision-language models: what may be asked of one (:mod:`.base`), and the local one on llama.cpp (:mod:`.llama`, imported when needed)."""

from sage_cli.model.base import ChatModel, Delta, Frames, Message, ModelInfo, Part, Progress, Prompt, Reply, StreamItem, Text, Usage

__all__ = ["ChatModel", "Delta", "Frames", "Message", "ModelInfo", "Part", "Progress", "Prompt", "Reply", "StreamItem", "Text", "Usage"]
