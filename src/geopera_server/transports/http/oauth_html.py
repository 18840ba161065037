"""The sign-in pages as HTML: no scripts, no pictures, nothing loaded from anywhere."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from starlette.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; --ink: #16211c; --soft: #56635c; --page: #eef2ef; --card: #fff; --line: #aab6af;
  --act: #11613f; --act-ink: #fff; --bad: #9c1c1c; --bad-back: #fbeaea; --ring: #2f7de1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8efeb; --soft: #a3b1a9; --page: #101613; --card: #1a221e;
  --line: #55635b; --act: #57c596; --act-ink: #06140d; --bad: #ffb0ab; --bad-back: #3a1b1b; --ring: #7fb2ff; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 26rem; padding: 2rem 1.75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .9rem; }
.mark { margin: 0 0 1.25rem; font-weight: 600; letter-spacing: .02em; color: var(--soft); }
h1 { margin: 0 0 .75rem; font-size: 1.45rem; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: 0 0 1rem; } .soft { color: var(--soft); font-size: .93rem; }
label { display: block; margin: 1rem 0 .3rem; font-weight: 600; }
input, select { width: 100%; padding: .7rem .8rem; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: .5rem; }
option { color: #16211c; background: #fff; }
.code { font: 600 1.5rem/1.3 ui-monospace, "SF Mono", Menlo, Consolas, monospace; letter-spacing: .12em;
  text-transform: uppercase; }
p.code { padding: .6rem; text-align: center; border: 1px dashed var(--line); border-radius: .5rem; }
input.code { text-align: center; }
ul { margin: 0 0 1rem; padding-left: 1.2rem; }
.actions { display: grid; gap: .7rem; margin-top: 1.5rem; }
button { padding: .75rem 1rem; font: inherit; font-weight: 600; border-radius: .5rem; border: 1px solid var(--line);
  background: transparent; color: inherit; cursor: pointer; }
button.act { background: var(--act); border-color: var(--act); color: var(--act-ink); }
:focus-visible { outline: 3px solid var(--ring); outline-offset: 2px; }
.bad { padding: .7rem .9rem; border-radius: .5rem; background: var(--bad-back); color: var(--bad); }
dl { margin: 0 0 1rem; } dt { color: var(--soft); font-size: .9rem; } dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One organization to act in."""

    id: str
    name: str


def page(
    title: str,
    body: Sequence[str],
    *,
    status: int = 200,
    form_targets: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Returns a whole page that no other site can frame, and whose forms go nowhere but here and to `form_targets`."""
    nonce = secrets.token_urlsafe(16)
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f'<title>{escape(title)}</title><style nonce="{nonce}">{_STYLE}</style></head>'
        f'<body><main><p class="mark">Geopera Server</p><h1>{escape(title)}</h1>{"".join(body)}</main></body></html>'
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action {' '.join([chr(39) + 'self' + chr(39), *form_targets])};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
    return HTMLResponse(
        html,
        status,
        headers={
            "Content-Security-Policy": policy,
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            **(headers or {}),
        },
    )


def form(action: str, hidden: Mapping[str, str], parts: Iterable[str]) -> str:
    """Returns a form with hidden fields and what else it shows."""
    fields = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in hidden.items())
    return f'<form method="post" action="{escape(action)}">{fields}{"".join(parts)}</form>'


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph; kinds are those of the style sheet."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def alert(text: str | None) -> str:
    """Returns what went wrong, read out at once by screen readers; nothing for None."""
    return "" if text is None else f'<p class="bad" role="alert">{escape(text)}</p>'


def buttons(*labelled: tuple[str, str]) -> str:
    """Returns submit buttons of (value, label) for the field `action`; the first one is the one that Enter presses."""
    made = (
        f'<button class="{"" if position else "act"}" name="action" value="{escape(value)}"'
        f"{' formnovalidate' if position else ''}>{escape(label)}</button>"
        for position, (value, label) in enumerate(labelled)
    )
    return f'<div class="actions">{"".join(made)}</div>'


def sign_in_fields(login: str) -> str:
    """Returns the fields for name and password, the first empty one in focus."""
    return (
        '<label for="username">Email or user name</label>'
        '<input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required'
        f' maxlength="320" value="{escape(login)}"{"" if login else " autofocus"}>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required'
        f' maxlength="256"{" autofocus" if login else ""}>'
    )


def user_code_field(code: str) -> str:
    """Returns the field for a device's code."""
    return (
        '<label for="user_code">Code</label><input id="user_code" name="user_code" class="code" required maxlength="20"'
        ' autocomplete="off" autocapitalize="characters" spellcheck="false" placeholder="XXXX-XXXX"'
        f' value="{escape(code)}"{"" if code else " autofocus"}>'
    )


def organization_field(choices: Sequence[Choice]) -> str:
    """Returns the choice of an organization: nothing for none, its name for one, a list for several."""
    if len(choices) < 2:
        return "".join(facts([("Organization", choice.name)]) for choice in choices)
    options = "".join(f'<option value="{escape(each.id)}">{escape(each.name)}</option>' for each in choices)
    return f'<label for="organization_id">Act for</label><select id="organization_id" name="organization_id">{options}</select>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Returns names and values as a list."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs) + "</dl>"


def bullets(lines: Sequence[str]) -> str:
    """Returns a bullet list."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
