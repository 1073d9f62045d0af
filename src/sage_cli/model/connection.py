"""The client of a server: whose proxies, certificates and account it uses, and what is worth another attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

from sage_cli.errors import ModelError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.refusals import is_lasting
from sage_cli.text import is_key

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

CONNECT_S: Final = 10.0
_SILENCE_S: Final = 600.0  # servers send nothing while they read a large prompt


def connect(address: RemoteAddress, key: str, retries: int) -> tuple[OpenAI, httpx2.Client]:
    """The client, and the connections that it uses.

    Args:
        key: bearer token; ``""`` for none.
        retries: of a request that fails in a way that may pass; the wait doubles each time, or is what the server asks for.

    Raises:
        ModelError: the environment's proxy or the key cannot be used.
    """
    import httpx2
    from openai import DefaultHttpxClient, Omit, OpenAI

    if not is_key(key):
        raise ModelError(f"the key for {address.host} holds a letter that no key has, such as a line break: was it pasted whole?")
    timeout = httpx2.Timeout(_SILENCE_S, connect=CONNECT_S)
    # A proxy of the environment is for other machines; what it says of certificates is for this one, too.
    transport = httpx2.HTTPTransport() if address.loopback else None
    # Of the environment, too: whose account it is concerns OpenAI alone.
    hidden = cast(dict[str, str], {} if address.openai else dict.fromkeys(("OpenAI-Organization", "OpenAI-Project"), Omit()))
    try:
        http = DefaultHttpxClient(timeout=timeout, transport=transport, event_hooks={"response": [_no_vain_retries]})
    except (ImportError, ValueError, OSError) as error:  # a scheme that is unknown or needs another package; no such certificate
        raise ModelError(
            f"no connection to {address.host}: {' '.join(str(error).split())}; see HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from error
    client = OpenAI(
        base_url=address.url,
        api_key=key or "none",
        max_retries=retries,
        timeout=timeout,
        http_client=http,
        default_headers=hidden,
        default_query=dict(parse_qsl(address.query)),
    )
    return client, http


def _no_vain_retries(response: httpx2.Response) -> None:
    """Tell the client not to send a request again that is refused for good, whatever the status."""
    if response.status_code == 429 or response.status_code >= 500:
        response.read()
        if is_lasting(response.status_code, response.text, response.headers):
            response.headers["x-should-retry"] = "false"


def ask_elsewhere(http: Any, url: str, key: str) -> Any:
    """What a server tells under another address; ``None`` if nothing."""
    import httpx2

    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return http.get(url, headers=headers, timeout=CONNECT_S).raise_for_status().json()
    except (httpx2.HTTPError, ValueError, RecursionError):
        return None
