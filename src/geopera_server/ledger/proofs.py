"""What must be true of the rows that hold money, as queries that return wherever it is not.

Each names the `subject`, `what` is wrong with it, what was `found` and `expected`, the number of the `first_entry` at which it
shows, and how many `others` are wrong in the same way. A parameter `organization` that is null asks for everybody's.
"""

from __future__ import annotations

_ENTRIES_ADD_UP = """
    WITH running AS (
        SELECT organization_id, number, credits, reason, balance_after, reserved_after, row_number() OVER w AS place,
               sum(credits) OVER w AS balance, sum(reserved_delta) OVER w AS reserved
          FROM ledger_entry WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s
        WINDOW w AS (PARTITION BY organization_id ORDER BY number ROWS UNBOUNDED PRECEDING)
    ), wrong AS (
        SELECT organization_id, number, what, found, expected, count(*) OVER (PARTITION BY organization_id, what) - 1 AS others,
               row_number() OVER (PARTITION BY organization_id, what ORDER BY number) AS nth
          FROM running CROSS JOIN LATERAL (VALUES
               ('number', number <> place, number::text, place::text),
               ('balance_after', balance_after <> balance, balance_after::text, balance::text),
               ('reserved_after', reserved_after <> reserved, reserved_after::text, reserved::text),
               ('balance', balance < 0 AND credits < 0 AND reason <> 'correction', balance::text, '0 or more'),
               ('reserved', reserved < 0, reserved::text, '0 or more')
          ) seen (what, is_wrong, found, expected)
         WHERE (number <> place OR balance_after <> balance OR reserved_after <> reserved OR balance < 0 OR reserved < 0)
           AND is_wrong
    )
    SELECT organization_id, 'entry ' || number AS subject, what, found, expected, number AS first_entry, others
      FROM wrong WHERE nth = 1 ORDER BY organization_id, number
"""

_ACCOUNTS_ARE_THE_SUMS = """
    WITH entries AS (
        SELECT organization_id, sum(credits) AS balance, sum(reserved_delta) AS reserved, count(*) AS entry_count
          FROM ledger_entry WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s GROUP BY organization_id
    ), holds AS (
        SELECT organization_id, sum(remaining) AS remaining
          FROM ledger_hold WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s GROUP BY organization_id
    ), known AS (
        SELECT id AS organization_id FROM organization
        UNION SELECT organization_id FROM ledger_account UNION SELECT organization_id FROM entries
        UNION SELECT organization_id FROM holds
    )
    SELECT organization_id, 'account' AS subject, what, found::text AS found, expected::text AS expected,
           NULL::bigint AS first_entry, 0::bigint AS others
      FROM known LEFT JOIN ledger_account a USING (organization_id) LEFT JOIN entries e USING (organization_id)
      LEFT JOIN holds h USING (organization_id) CROSS JOIN LATERAL (VALUES
           ('accounts', (a.organization_id IS NOT NULL)::int, 1),
           ('balance', a.balance, coalesce(e.balance, 0)),
           ('reserved', a.reserved, coalesce(e.reserved, 0)),
           ('entry_count', a.entry_count, coalesce(e.entry_count, 0)),
           ('reserved, beside what its holds still hold', a.reserved, coalesce(h.remaining, 0))
      ) seen (what, found, expected)
     WHERE (%(organization)s::uuid IS NULL OR organization_id = %(organization)s) AND found <> expected
     ORDER BY organization_id
"""

_HOLDS_ARE_THEIR_ENTRIES = """
    WITH posted AS (
        SELECT hold_id AS id, organization_id, min(number) AS first_entry,
               coalesce(sum(reserved_delta) FILTER (WHERE reason = 'reserve'), 0) AS reserved,
               coalesce(-sum(reserved_delta) FILTER (WHERE reason = 'settle'), 0) AS settled,
               coalesce(-sum(reserved_delta) FILTER (WHERE reason = 'release'), 0) AS released
          FROM ledger_entry
         WHERE hold_id IS NOT NULL AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
         GROUP BY hold_id, organization_id
    ), hold AS (
        SELECT * FROM ledger_hold WHERE %(organization)s::uuid IS NULL OR organization_id = %(organization)s
    )
    SELECT organization_id, 'hold ' || id AS subject, what, coalesce(found::text, 'none') AS found,
           coalesce(expected::text, 'none') AS expected, first_entry, 0::bigint AS others
      FROM posted p FULL JOIN hold h USING (id, organization_id) CROSS JOIN LATERAL (VALUES
           ('reserved', h.reserved, p.reserved), ('settled', h.settled, p.settled), ('released', h.released, p.released)
      ) seen (what, found, expected)
     WHERE coalesce(found, 0) <> coalesce(expected, 0) ORDER BY organization_id, id
"""

_CHARGES_ARE_GRANTED_ONCE = """
    WITH granted AS (
        SELECT topup_id AS id, count(*) AS entries, min(number) AS first_entry, sum(credits) AS credits,
               min(id::text) AS entry_id, min(organization_id::text) AS organization_id, min(reason) AS reason
          FROM ledger_entry WHERE topup_id IS NOT NULL AND reason <> 'correction'
           AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
         GROUP BY topup_id
    ), charge AS (
        SELECT *, CASE kind WHEN 'manual' THEN 'topup' WHEN 'auto' THEN 'auto_topup' WHEN 'approval' THEN 'approval_purchase'
                            ELSE 'shortfall_charge' END AS reason
          FROM topup WHERE (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
    )
    SELECT coalesce(t.organization_id, g.organization_id::uuid) AS organization_id, 'top-up ' || id AS subject, what,
           coalesce(found, 'none') AS found, coalesce(expected, 'none') AS expected, first_entry, 0::bigint AS others
      FROM granted g FULL JOIN charge t USING (id) CROSS JOIN LATERAL (VALUES
           ('state', t.state, 'succeeded', g.id IS NOT NULL),
           ('entries', coalesce(g.entries, 0)::text, '1', t.ledger_entry_id IS NOT NULL OR g.entries > 1),
           ('ledger_entry_id', t.ledger_entry_id::text, g.entry_id, t.id IS NOT NULL AND g.entries = 1),
           ('credits of its entry', g.credits::text, t.credits::text, t.id IS NOT NULL AND g.entries = 1),
           ('reason of its entry', g.reason, t.reason, t.id IS NOT NULL AND g.entries = 1),
           ('organization of its entry', g.organization_id, t.organization_id::text, t.id IS NOT NULL AND g.entries = 1)
      ) seen (what, found, expected, applies)
     WHERE applies AND found IS DISTINCT FROM expected ORDER BY organization_id, id
"""

_CARD_ENTRIES_NAME_THEIR_CHARGE = """
    SELECT organization_id, 'entry ' || number AS subject, 'topup_id' AS what, 'none' AS found,
           'the top-up it was charged by' AS expected, number AS first_entry, 0::bigint AS others
      FROM ledger_entry
     WHERE reason IN ('topup', 'auto_topup', 'approval_purchase', 'shortfall_charge') AND topup_id IS NULL
       AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
     ORDER BY organization_id, number
"""

_WHAT_WAS_REVERSED_IS_TAKEN_BACK = """
    WITH taken AS (
        SELECT topup_id AS id, -sum(credits) AS credits, min(number) AS first_entry FROM ledger_entry
         WHERE topup_id IS NOT NULL AND reason = 'correction'
           AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
         GROUP BY topup_id
    )
    SELECT t.organization_id, 'top-up ' || id AS subject, 'reversed_credits' AS what, t.reversed_credits::text AS found,
           coalesce(taken.credits, 0)::text AS expected, first_entry, 0::bigint AS others
      FROM topup t LEFT JOIN taken USING (id)
     WHERE (%(organization)s::uuid IS NULL OR t.organization_id = %(organization)s)
       AND t.reversed_credits <> coalesce(taken.credits, 0)
     ORDER BY t.organization_id, id
"""

_CHARGES_BECOME_CREDITS = """
    SELECT organization_id, 'top-up ' || id AS subject, 'grant' AS what, 'none' AS found, credits || ' credits' AS expected,
           NULL::bigint AS first_entry, 0::bigint AS others
      FROM topup
     WHERE state = 'succeeded' AND ledger_entry_id IS NULL AND updated_at <= %(granted_by)s
       AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
     ORDER BY organization_id, id
"""

_BUDGETS_ARE_THEIR_SPENDS = """
    WITH share AS (
        SELECT budget_id, period_start, sum(reserved_credits) AS reserved, sum(greatest(spent_credits, 0)) AS spent
          FROM budget_share GROUP BY budget_id, period_start
    )
    SELECT b.organization_id, what,
           'budget ' || b.id || ' from ' || to_char(period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS subject,
           found::text AS found, expected::text AS expected, NULL::bigint AS first_entry, 0::bigint AS others
      FROM share s FULL JOIN budget_use u USING (budget_id, period_start) JOIN budget b ON b.id = budget_id
     CROSS JOIN LATERAL (VALUES
           ('reserved_credits', coalesce(u.reserved_credits, 0), coalesce(s.reserved, 0)),
           ('spent_credits', coalesce(u.spent_credits, 0), coalesce(s.spent, 0))
      ) seen (what, found, expected)
     WHERE (%(organization)s::uuid IS NULL OR b.organization_id = %(organization)s) AND found <> expected
     ORDER BY b.organization_id, b.id, period_start
"""

_SPENDS_COUNT_AS_THEY_ARE = """
    WITH corrected AS (
        SELECT organization_id, coalesce(order_id, job_id, id) AS spend_id, -sum(credits) AS credits
          FROM ledger_entry
         WHERE reason IN ('charge_adjustment', 'refund')
           AND (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)
         GROUP BY 1, 2
    ), held AS (
        SELECT organization_id, coalesce(order_id, job_id) AS spend_id, remaining, settled FROM ledger_hold
    ), owed AS (
        SELECT organization_id, coalesce(order_id, job_id) AS spend_id, credits, billable_at
          FROM accrual WHERE reversed_at IS NULL
    )
    SELECT b.organization_id, 'spend ' || spend_id || ' in budget ' || b.id AS subject, what, found::text AS found,
           expected::text AS expected, s.last_entry AS first_entry, 0::bigint AS others
      FROM budget_share s JOIN budget b ON b.id = s.budget_id AND b.deleted_at IS NULL
      LEFT JOIN held h USING (organization_id, spend_id) LEFT JOIN corrected c USING (organization_id, spend_id)
      LEFT JOIN owed o USING (organization_id, spend_id) CROSS JOIN LATERAL (VALUES
           ('reserved_credits', s.reserved_credits,
            coalesce(h.remaining, 0) + CASE WHEN o.billable_at IS NULL THEN coalesce(o.credits, 0) ELSE 0 END),
           ('spent_credits', s.spent_credits,
            coalesce(h.settled, 0) + coalesce(c.credits, 0) + CASE WHEN o.billable_at IS NULL THEN 0 ELSE o.credits END)
      ) seen (what, found, expected)
     WHERE (%(organization)s::uuid IS NULL OR b.organization_id = %(organization)s) AND found <> expected
     ORDER BY b.organization_id, b.id, spend_id
"""

_INVOICES_ARE_THEIR_LINES = """
    SELECT i.organization_id, 'invoice ' || i.number AS subject, 'total_credits' AS what, i.total_credits::text AS found,
           coalesce(sum(l.credits), 0)::text AS expected, NULL::bigint AS first_entry, 0::bigint AS others
      FROM invoice i LEFT JOIN invoice_line l ON l.invoice_id = i.id
     WHERE %(organization)s::uuid IS NULL OR i.organization_id = %(organization)s
     GROUP BY i.id HAVING i.total_credits <> coalesce(sum(l.credits), 0) ORDER BY i.organization_id, i.number
"""

_WHAT_IS_BILLED_IS_ON_ITS_INVOICE = """
    SELECT a.organization_id, 'accrual of ' || coalesce('order ' || a.order_id, 'job ' || a.job_id) AS subject,
           'invoice' AS what,
           CASE WHEN i.organization_id <> a.organization_id THEN i.number || ' of another organization'
                WHEN i.status = 'void' THEN i.number || ', which is void'
                ELSE i.number || ', without a line for it' END AS found,
           'one that bills it' AS expected, NULL::bigint AS first_entry, 0::bigint AS others
      FROM accrual a JOIN invoice i ON i.id = a.invoice_id
     WHERE (%(organization)s::uuid IS NULL OR a.organization_id = %(organization)s)
       AND (i.organization_id <> a.organization_id OR i.status = 'void' OR NOT EXISTS (
            SELECT FROM invoice_line l WHERE l.invoice_id = i.id AND (l.order_id = a.order_id OR l.job_id = a.job_id)))
     ORDER BY a.organization_id, a.id
"""

PROOFS = {
    "entries add up": _ENTRIES_ADD_UP,
    "accounts are the sums of their entries": _ACCOUNTS_ARE_THE_SUMS,
    "holds are the sums of their entries": _HOLDS_ARE_THEIR_ENTRIES,
    "charges are granted once": _CHARGES_ARE_GRANTED_ONCE,
    "entries of a card name their charge": _CARD_ENTRIES_NAME_THEIR_CHARGE,
    "what was reversed is taken back": _WHAT_WAS_REVERSED_IS_TAKEN_BACK,
    "charges become credits": _CHARGES_BECOME_CREDITS,
    "budgets are the sums of their spends": _BUDGETS_ARE_THEIR_SPENDS,
    "spends count as they are": _SPENDS_COUNT_AS_THEY_ARE,
    "invoices are the sums of their lines": _INVOICES_ARE_THEIR_LINES,
    "what is billed is on its invoice": _WHAT_IS_BILLED_IS_ON_ITS_INVOICE,
}
