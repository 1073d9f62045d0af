from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import trustme

from sage_cli.web import Web, WebSettings
from tests.web.internet import Internet

Open: TypeAlias = Callable[..., Web]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """A certificate authority of the loopback internet, and its certificate's file."""
    authority, path = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, path


@pytest.fixture
def internet() -> Iterator[Internet]:
    internet = Internet()
    yield internet
    internet.close()


@pytest.fixture
def secure(internet: Internet, authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Internet]:
    """The internet with TLS, for certificates of the given names; trusted the way a user makes us trust an authority."""

    def secure(*names: str) -> Internet:
        internet.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority[0].issue_cert(*names).configure_cert(internet.tls)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority[1]))
        return internet

    return secure


@pytest.fixture
def open_web(internet: Internet, tmp_path: Path) -> Open:
    def open_web(**settings: object) -> Web:
        given = {"backoff_s": 0.0, "robots": False, **settings}
        return Web(WebSettings(**given), tmp_path / "web", network=internet)  # type: ignore[arg-type]

    return open_web
