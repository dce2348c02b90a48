"""Why a request is refused: one kind of error, whichever protocol it came by."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - a decision, not a fault
    """`status`: of HTTP. `message` and `hint`: for whoever is in the guest, and for the log of requests."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


REASONS = {
    400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 502: "Bad Gateway", 504: "Gateway Timeout",
}  # fmt: skip


def response(refused: Refused) -> bytes:
    """The one answer that says so, after which the connection ends."""
    hint = f"on the host: {refused.hint}\n" if refused.hint else ""
    body = f"git-sandbox: {refused.message}\n{hint}".encode("ascii", "replace")
    lines = [
        f"HTTP/1.1 {refused.status} {REASONS[refused.status]}",
        "Content-Type: text/plain; charset=us-ascii",
        f"Content-Length: {len(body)}",
        f"Proxy-Status: git-sandbox; error={_token(refused.status)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


def _token(status: int) -> str:
    """Of RFC 9209."""
    known = {
        400: "http_request_error",
        403: "http_request_denied",
        408: "http_request_error",
        504: "connection_timeout",
    }
    return known.get(status, "destination_unavailable" if status == 502 else "proxy_internal_response")  # noqa: PLR2004
