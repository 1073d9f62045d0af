"""One model served at several addresses: each process uses one, and the next one if it cannot be reached."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from sage_cli.model.address import RemoteAddress, api_key
from sage_cli.model.base import Delta, ModelInfo, Prompt, StreamItem
from sage_cli.model.refusals import UnreachableError
from sage_cli.model.remote import RemoteModel

logger = logging.getLogger(__name__)


class Endpoints:
    """A model served at several addresses; implements :class:`sage_cli.model.base.ChatModel`.

    Processes that start one after another, as workers of a benchmark do, start with different addresses. Each keeps its address while it
    can be reached, because the server may have cached its prompts.

    Args:
        address: has others.
        context_size: see :class:`RemoteModel`.
        retries: see :class:`RemoteModel`.

    Raises:
        UnreachableError: none of the servers can be reached.
        ModelError: one does not serve this model.
    """

    def __init__(self, address: RemoteAddress, *, context_size: int | None = None, retries: int = 4) -> None:
        self._outside = address.outside
        self._addresses = deque(address.each)
        self._addresses.rotate(os.getpid())
        self._options: dict[str, Any] = {"context_size": context_size, "retries": retries}
        self._model = self._connect(len(self._addresses))

    def __enter__(self) -> Endpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Safe to call again."""
        self._model.close()

    @property
    def info(self) -> ModelInfo:
        return replace(self._model.info, host=self._outside)

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> tuple[int, int]:
        return self._model.frame_size(width, height, max_tokens, pixels)

    def count_tokens(self, prompt: Prompt) -> int:
        return self._model.count_tokens(prompt)

    def prefetch(self, prompt: Prompt) -> None:
        self._model.prefetch(prompt)

    def forget(self) -> None:
        self._model.forget()

    def interrupt(self) -> None:
        self._model.interrupt()

    def stream(self, prompt: Prompt, *, schema: Mapping[str, Any] | None = None, **options: Any) -> Generator[StreamItem]:
        """As :meth:`RemoteModel.stream`; starts over at the next address if the current one cannot be reached."""
        speaker: RemoteModel | None = None  # whose words cannot be taken back
        for left in reversed(range(len(self._addresses))):
            try:
                with closing(self._model.stream(prompt, schema=schema, **options)) as items:
                    for item in items:
                        if isinstance(item, Delta) and item.text:
                            speaker = speaker or self._model
                            item = item if speaker is self._model else Delta("")
                        yield item
                return
            except UnreachableError as error:
                if not left:
                    raise
                logger.warning("%s; going on with another server", error)
                self._addresses.rotate(-1)
                self._model, left_behind = self._connect(left), self._model  # which stays, to be asked again later, if there is no other
                left_behind.close()

    def _connect(self, attempts: int) -> RemoteModel:
        """The model at the first of the addresses that can be reached."""
        while True:
            address = self._addresses[0]
            try:
                return RemoteModel(address, key=api_key(address), **self._options)
            except UnreachableError as error:
                attempts -= 1
                if not attempts:
                    raise UnreachableError(f"none of {', '.join(one.host for one in self._addresses)} can be reached: {error}") from error
                self._addresses.rotate(-1)
