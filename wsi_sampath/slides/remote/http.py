"""Ranges of a file by HTTP.

By `requests`, not by fsspec: fsspec reads all of a file where a server ignores that a range was
asked for, and does not tell with what ETag a range came. No error of the library is shown as it
is, for its text holds the whole address.
"""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ProtocolError, SSLError, TimeoutError

from wsi_sampath.errors import WsiError
from wsi_sampath.slides.remote.wire import RESUME, Broken, Stamp

_TIMEOUT_S = (15, 60)
_CHUNK_BYTES = 1 << 18
_CONNECTIONS = 16
_RANGE = re.compile(r"\s*bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*")
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_LET_IN = frozenset({401, 403, 407})
_GONE = frozenset({404, 410})
_DOWNLOAD = "download it, and give the file"


class HttpWire:
    """A file of a web server.

    Parameters
    ----------
    address
        With ``http://`` or ``https://``; may hold a user with a password, and a query.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """See `Wire.begin`. By a GET, since a link may be signed for nothing else."""
        return self.fetch(0, count)

    def fetch(self, start: int, stop: int) -> tuple[Stamp, bytes]:
        """See `Wire.fetch`."""
        # An encoding would compress the range, whose length would be another.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        try:
            with self._session.get(
                self._address, headers=headers, stream=True, timeout=_TIMEOUT_S
            ) as answer:
                stamp, stop = _checked(answer, start, stop)
                return stamp, _body(answer, stop - start)
        except (requests.exceptions.SSLError, SSLError) as error:
            raise _insecure(error) from None
        except ProtocolError:
            raise Broken("the connection broke off") from None
        except (requests.exceptions.Timeout, TimeoutError):
            raise Broken("the server did not answer in time") from None
        except requests.exceptions.ConnectionError:
            raise Broken("the server cannot be reached") from None
        except (requests.exceptions.TooManyRedirects, requests.exceptions.InvalidSchema):
            message = "the server sends on in a circle, or to what is no web address"
            raise WsiError("unreachable", message) from None
        except (requests.exceptions.RequestException, HTTPError, ValueError) as error:
            message = f"the request cannot be made ({type(error).__name__}); is the URL complete?"
            raise WsiError("unreachable", message) from None
        except OSError:
            # What happens to a connection has an error of its own.
            message = "the certificates that REQUESTS_CA_BUNDLE names cannot be read"
            raise WsiError("unreachable", message) from None


def _insecure(error: BaseException) -> Exception:
    """Return what a failure of TLS is: a certificate stays as it is, a connection may not."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            message = (
                "its certificate is not trusted; set REQUESTS_CA_BUNDLE to that of your network"
            )
            return WsiError("unreachable", message)
        cause = cause.__cause__ or cause.__context__
    return Broken("the secure connection (TLS) failed")


def _checked(answer: requests.Response, start: int, stop: int) -> tuple[Stamp, int]:
    """Return the state that an answer is of, and where its range ends; refuse what is no range."""
    if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
        raise _refusal(answer)
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found is not None and found[3] == "*":
        message = f"the server does not say how large the file is; {_DOWNLOAD}"
        raise WsiError("unreadable", message)
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise WsiError("unreadable", f"the server compresses what it sends; {_DOWNLOAD}")
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    size = int(found[3]) if found else 0
    stop = min(stop, size)
    if found is None or (int(found[1]), int(found[2]) + 1) != (start, stop):
        message = f"the server sends another range than it is asked for; {_DOWNLOAD}"
        raise WsiError("unreadable", message)
    return Stamp(size, tag.removeprefix("W/")), stop


def _body(answer: requests.Response, count: int) -> bytes:
    # No more is waited for than is asked for: some servers never end an answer.
    body = bytearray()
    while len(body) < count:
        part = answer.raw.read(min(_CHUNK_BYTES, count - len(body)), decode_content=False)
        if not part:
            raise Broken("the connection broke off")
        body += part
    return bytes(body)


def _refusal(answer: requests.Response) -> Exception:
    """Return the error that an answer without a range of bytes is."""
    status = answer.status_code
    if status in _AGAIN:
        asked = answer.headers.get("Retry-After", "")
        wait_s = float(asked) if asked.isdecimal() else 0.0
        return Broken(f"the server answered {_named(status)}", wait_s)
    if status == HTTPStatus.OK and answer.headers.get("Content-Length") == "0":
        return WsiError("unreadable", "the file is empty")
    if status == HTTPStatus.OK:
        # Nothing of the body has been read, and nothing will be.
        message = f"the server sends whole files alone, no ranges of bytes; {_DOWNLOAD}"
        return WsiError("unreadable", message)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return WsiError("unreadable", "the file is empty, or was replaced while it was read")
    said = f"the server answered {_named(status)}"
    if status in _NOT_LET_IN:
        said += f": the link has expired, or lacks a login; with a fresh one, {RESUME}"
    elif status in _GONE:
        said += ": there is no such file"
    return WsiError("unreachable", said)


def _named(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
