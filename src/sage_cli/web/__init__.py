"""Web search and web pages, only with the user's consent.

Nothing here talks to anybody before it has said to whom and what: :class:`Web` gives every request out first, and sends it when it is
asked to go on. What comes back is data: bounded, and never a reason to touch anything else.
"""

from sage_cli.web.base import Found, Page, Request, WebError, addresses_in
from sage_cli.web.settings import WebSettings
from sage_cli.web.web import Web

__all__ = ["Found", "Page", "Request", "Web", "WebError", "WebSettings", "addresses_in"]
