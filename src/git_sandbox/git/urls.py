"""Removes secrets from URLs in text: passwords, user names that can be tokens, and queries."""

from __future__ import annotations

import re

from git_sandbox.later import regex

# The authority of a URL ends at the first slash; everything up to its last @ is userinfo (RFC 3986).
_WEB_USERINFO = regex(r"(?P<scheme>\b(?:https?|ftps?)://)[^/?#\s]*@", re.IGNORECASE)
_PASSWORD = regex(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^/?#\s:@]*):[^/?#\s]*@", re.IGNORECASE)
_TAIL = regex(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s?#\"'<>]*)(?:\?(?P<query>[^\s#\"'<>]*))?(?P<fragment>#[^\s\"'<>]*)?",
    re.IGNORECASE,
)
# What may stay of a query. Everything else can be a token or a signature: private_token, sig, X-Amz-Credential, …
_PLAIN = frozenset({
    "ref", "branch", "tag", "rev", "path", "dir", "format", "version", "service", "filter", "depth", "submodules",
})  # fmt: skip
# Values that are secrets wherever they stand, by how their makers mark them.
_MARKED = regex(
    r"\b(?:gh[opsur]_|github_pat_|glpat-|gldt-|glcbt-|xox[abeoprs]-|sk_live_|sk_test_|rk_live_|npm_|pypi-|dop_v1_|hf_"
    r"|shpat_|ATATT3)[A-Za-z0-9_\-=]{8,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}|\bAIza[\w-]{30,}"
)


def without_userinfo(text: str) -> str:
    """`text` with no password in any URL of it, and no user name in those of the web, where it can be a token."""
    return _PASSWORD.sub(r"\g<scheme>\g<user>@", _WEB_USERINFO.sub(r"\g<scheme>", text))


def cleaned(text: str) -> str:
    """The same, and of each query only what is known to be harmless."""
    return _TAIL.sub(_without_query, without_userinfo(text)) if "://" in text else text


def _without_query(match: re.Match[str]) -> str:
    kept = [word for word in (match["query"] or "").split("&") if word.partition("=")[0].lower() in _PLAIN]
    fragment = match["fragment"] or ""
    return match["url"] + (f"?{'&'.join(kept)}" if kept else "") + ("" if "=" in fragment else fragment)


def holds_secret(text: str) -> bool:
    return cleaned(text) != text or _MARKED.search(text) is not None


def marked(text: str) -> bool:
    """Is there a token in `text` that says of itself that it is one?"""
    return _MARKED.search(text) is not None
