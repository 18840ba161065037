"""Spending caps: who may spend how much in a day, a month or ever."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Row
from geopera_server.domains.billing.presenting import as_ledger_entry
from geopera_server.domains.budgets import store
from geopera_server.domains.budgets.alerts import crossings
from geopera_server.domains.budgets.presenting import as_budget
from geopera_server.domains.budgets.shapes import (
    Budget,
    BudgetCheck,
    BudgetCheckInput,
    BudgetDeleteInput,
    BudgetDeleteOutput,
    BudgetGetInput,
    BudgetListInput,
    Budgets,
    BudgetSaveInput,
    BudgetWithRecent,
)
from geopera_server.domains.identity.access import (
    is_org_billing,
    require_human,
    require_org_billing,
    require_project_read,
)
from geopera_server.domains.payments.funding import outlook
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id, new_id

RECENT_ENTRIES = 20
_EXAMPLE_ID = "0198f1c2-0000-7000-8000-000000000000"
_NOUNS = {"organization": "organization", "project": "project", "api_key": "API key", "user": "member"}
_CHANGEABLE = ("limit_credits", "mode", "alert_thresholds", "active")


@operation(
    "budgets.list",
    effect="read",
    scope="budgets:read",
    raw=True,
    extension=True,
    example={"subject_type": "api_key", "active": True},
)
async def list_budgets(ctx: Context, given: BudgetListInput) -> Budgets:
    """Lists your organization's budgets with what the running period has used; an API key sees those that bind it."""
    if given.subject_id is not None and not is_id(given.subject_id):
        return Budgets(budgets=[], total=0)
    rows = await store.budgets_of(
        ctx.conn,
        {
            **given.model_dump(),
            "organization": ctx.organization_id,
            "at": ctx.now,
            "api_key": ctx.principal.api_key_id,
        },
    )
    return Budgets(budgets=[as_budget(row) for row in rows], total=len(rows))


@operation("budgets.get", effect="read", scope="budgets:read", raw=True, extension=True, example={"budget_id": _EXAMPLE_ID})
async def get(ctx: Context, given: BudgetGetInput) -> BudgetWithRecent:
    """Returns a budget with the newest movements of credits that it counts.

    Who may not read the ledger (`billing:read`) sees only their own movements.
    """
    budget = as_budget(await _found(ctx, given.budget_id))
    only_of = None if ctx.principal.holds("billing:read") else ctx.principal.id
    entries = await store.newest_entries(ctx.conn, ctx.organization_id, given.budget_id, only_of=only_of, limit=RECENT_ENTRIES)
    return BudgetWithRecent(**budget, recent=[as_ledger_entry(entry) for entry in entries])


@operation(
    "budgets.save",
    effect="compute",
    scope="budgets:write",
    extension=True,
    idempotent=True,
    example={"subject_type": "api_key", "subject_id": _EXAMPLE_ID, "period": "month", "limit_credits": 50_000},
)
async def save(ctx: Context, given: BudgetSaveInput) -> Budget:
    """Makes a budget, or changes one by its `id`: what you do not send stays as it is.

    One budget per subject and period. A new one counts what the running period has used already. Only people who manage
    billing do this, so that a key can never lift its own cap. Whom a budget caps and its period never change: delete it and
    make another one for that.
    """
    budget_id = await (_make(ctx, given) if given.id is None else _change(ctx, given, given.id))
    ctx.touch("budget", budget_id)
    await crossings(ctx)
    return as_budget(await _found(ctx, budget_id))


async def _make(ctx: Context, given: BudgetSaveInput) -> str:
    if given.subject_type is None or given.limit_credits is None:
        missing = "subject_type" if given.subject_type is None else "limit_credits"
        raise InvalidInput(f"A new budget needs {missing}. To change an existing one, send its id.", loc=(missing,))
    values = {**{name: _not_null(given, name) for name in (*_CHANGEABLE, "period")}, **_thresholds(given)}
    subject_id = await _subject(ctx, given)
    require_human(ctx.principal)
    require_org_billing(ctx.principal)
    subject = {"subject_type": given.subject_type, "subject_id": subject_id, "period": values["period"]}
    existing = await store.budget_for(ctx.conn, ctx.organization_id, **subject)
    if existing is not None:
        raise Conflict(
            f"There is a budget for this {_NOUNS[given.subject_type]} and period already. Send its id to change it.",
            budget_id=existing,
        )
    row = {
        **values, **subject, "id": new_id(), "organization": ctx.organization_id, "created_by": ctx.principal.id,
        "at": ctx.now, "invocation_id": ctx.invocation_id,
    }  # fmt: skip
    await store.insert_budget(ctx.conn, row)
    return str(row["id"])


async def _change(ctx: Context, given: BudgetSaveInput, budget_id: str) -> str:
    if is_id(budget_id):
        await store.lock_budget(ctx.conn, ctx.organization_id, budget_id)
    row = await _found(ctx, budget_id)
    require_human(ctx.principal)
    require_org_billing(ctx.principal)
    _check_subject_stays(given, row)
    sent = {name: _not_null(given, name) for name in _CHANGEABLE if name in given.model_fields_set}
    if "alert_thresholds" in sent:
        sent |= _thresholds(given)
    kept = {name: row[name] for name in _CHANGEABLE}
    change = {
        **kept, **sent, "id": budget_id, "organization": ctx.organization_id, "at": ctx.now,
        "invocation_id": ctx.invocation_id,
    }  # fmt: skip
    await store.change_budget(ctx.conn, change)
    return budget_id


def _check_subject_stays(given: BudgetSaveInput, row: Row) -> None:
    present = {name: row[name] for name in ("subject_type", "subject_id", "period")}
    for name in given.model_fields_set & present.keys():
        sent = getattr(given, name)
        if name == "subject_id":
            sent = sent.lower() if sent is not None else row["organization_id"]
        if sent != present[name]:
            raise InvalidInput(f"The {name} of a budget never changes. Delete this one and make another.", loc=(name,))


def _not_null(given: BudgetSaveInput, name: str) -> Any:
    value = getattr(given, name)
    if value is None:
        raise InvalidInput(f"{name} cannot be null. Leave it out to keep it as it is.", loc=(name,))
    return value


def _thresholds(given: BudgetSaveInput) -> dict[str, list[str]]:
    """Returns each threshold once, to the thousandth, in ascending order."""
    rounded = {round(threshold, 3) for threshold in given.alert_thresholds or []}
    return {"alert_thresholds": [f"{threshold:.3f}" for threshold in sorted(rounded)]}


async def _subject(ctx: Context, given: BudgetSaveInput) -> str:
    """Returns the id of whom a new budget caps; raises NotFound for what is not the organization's."""
    wanted, kind = given.subject_id, str(given.subject_type)
    if kind == "organization":
        if wanted is not None and wanted.lower() != ctx.organization_id:
            raise NotFound("organization")
        return ctx.organization_id
    if wanted is None:
        raise InvalidInput(f"Name the {_NOUNS[kind]} with subject_id.", loc=("subject_id",))
    if not is_id(wanted) or not await store.subject_exists(ctx.conn, ctx.organization_id, kind, wanted, ctx.now):
        raise NotFound(_NOUNS[kind])
    return wanted.lower()


async def _found(ctx: Context, budget_id: str) -> Row:
    row = None
    if is_id(budget_id):
        row = await store.budget_of(ctx.conn, ctx.organization_id, budget_id, at=ctx.now, api_key_id=ctx.principal.api_key_id)
    if row is None:
        raise NotFound("budget")
    return row


@operation("budgets.delete", effect="destructive", scope="budgets:write", extension=True, example={"budget_id": _EXAMPLE_ID})
async def delete(ctx: Context, given: BudgetDeleteInput) -> BudgetDeleteOutput:
    """Deletes a budget: it caps nobody any more. Only people who manage billing do this."""
    row = await _found(ctx, given.budget_id)
    require_human(ctx.principal)
    require_org_billing(ctx.principal)
    if not await store.delete_budget(ctx.conn, ctx.organization_id, row["id"], at=ctx.now, invocation_id=ctx.invocation_id):
        raise NotFound("budget")
    ctx.touch("budget", row["id"])
    return BudgetDeleteOutput(id=row["id"])


@operation(
    "budgets.check",
    effect="read",
    scope="budgets:read",
    raw=True,
    extension=True,
    snapshot=True,
    example={"credits": 12_000, "project_id": _EXAMPLE_ID},
)
async def check(ctx: Context, given: BudgetCheckInput) -> BudgetCheck:
    """Says whether a spend of so many credits would go through now, without making it.

    `limiting_budget_id` is the budget that leaves the least room, with `remaining_credits` left in it; both are null when no
    budget caps the spend. `shortfall_credits` is what the balance lacks; a saved card would be charged for it.
    """
    project_id = None
    if given.project_id is not None:
        project_id = str(await require_project_read(ctx.conn, ctx.principal, given.project_id))
    api_key_id = await _spender(ctx, given.api_key_id)
    tightest = await store.tightest(
        ctx.conn,
        ctx.organization_id,
        project_id=project_id,
        api_key_id=api_key_id,
        principal_id=ctx.principal.id,
        at=ctx.now,
    )
    unbudgeted = api_key_id is not None and await store.needs_own_budget(ctx.conn, ctx.organization_id, api_key_id)
    within = not unbudgeted and (tightest is None or given.credits <= tightest["room"])
    seen = await outlook(ctx.conn, ctx.organization_id, given.credits)
    covered = seen.shortfall_credits == 0 or (seen.has_card and not seen.approval_required)
    remaining = None if tightest is None else max(0, tightest["room"])
    return BudgetCheck(
        allowed=(given.credits == 0 or (within and covered)) and ctx.principal.standing == "active",
        remaining_credits=0 if unbudgeted else remaining,
        limiting_budget_id=None if unbudgeted or tightest is None else tightest["id"],
        approval_required=seen.approval_required,
        balance=seen.balance,
        shortfall_credits=seen.shortfall_credits,
    )


async def _spender(ctx: Context, api_key_id: str | None) -> str | None:
    """Returns the API key that would spend; a key asks only for itself, people for their own keys, billing for all."""
    own = ctx.principal.api_key_id
    if api_key_id is None or api_key_id == own:
        return own
    known = is_id(api_key_id) and own is None
    if not known or not await store.subject_exists(ctx.conn, ctx.organization_id, "api_key", api_key_id, ctx.now):
        raise NotFound("API key")
    if not is_org_billing(ctx.principal) and (
        await store.made_by(ctx.conn, ctx.organization_id, api_key_id) != ctx.principal.user_id
    ):
        raise NotFound("API key")
    return api_key_id
