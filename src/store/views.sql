-- The views that admins and branch programs read. Their names and columns stay; new columns are added at the end.
-- Times made by the gateway are shown as RFC 3339 in UTC, times and amounts from Belvo as Belvo sent them.

-- Every webhook with what became of it: waiting, done, blocked, failed, nothing-to-do, unknown, cancelled (the link is
-- gone), erased.
CREATE VIEW inbox AS
SELECT journal.seq,
       strftime('%Y-%m-%dT%H:%M:%fZ', journal.received_at / 1000.0, 'unixepoch') AS received_at,
       events.type, events.code, events.process_type, events.link_id, events.external_id, events.request_id,
       events.resource,
       CASE
           WHEN events.seq IS NULL THEN 'waiting'
           WHEN events.action IN ('unknown', 'erased') THEN events.action
           WHEN events.action IN ('probe', 'payments-br', 'payments-mx') THEN 'nothing-to-do'
           ELSE coalesce((
               -- What this webhook asked for and is still to come, the worst first.
               SELECT CASE
                          WHEN work.blocked_by = 'failed' THEN 'failed'
                          WHEN links.status IN ('deleted', 'erased') THEN 'cancelled'
                          WHEN coalesce(links.status, 'valid') <> 'valid' AND work.resource NOT IN ('links', 'consents')
                              THEN 'blocked'
                          ELSE 'waiting'
                      END
                 FROM work LEFT JOIN links USING (link_id)
                WHERE work.link_id = events.link_id
                  AND (work.resource = events.resource OR events.resource IS NULL AND work.resource IN ('links', 'consents'))
                  AND work.wanted > work.fetched AND events.seq BETWEEN work.asked AND work.wanted
                ORDER BY work.blocked_by IS NULL
                LIMIT 1), 'done')
       END AS state,
       (SELECT work.last_error FROM work
         WHERE work.link_id = events.link_id
           AND (work.resource = events.resource OR events.resource IS NULL AND work.resource IN ('links', 'consents'))
           AND work.wanted > work.fetched AND events.seq BETWEEN work.asked AND work.wanted
           AND work.last_error IS NOT NULL
         ORDER BY work.blocked_by IS NULL
         LIMIT 1) AS error,
       events.duplicate_of, journal.clock_trusted, journal.peer, events.webhook_id, journal.body, events.action
  FROM journal
  LEFT JOIN events ON events.seq = journal.seq;

-- What needs a person, worst first.
CREATE VIEW attention AS
SELECT problem, kind, subject,
       strftime('%Y-%m-%dT%H:%M:%fZ', since_at / 1000.0, 'unixepoch') AS since,
       strftime('%Y-%m-%dT%H:%M:%fZ', last_at / 1000.0, 'unixepoch') AS last_seen,
       count, text, next_step, severity
  FROM problems
 WHERE closed_at IS NULL
 ORDER BY severity, since_at;

-- How fresh the data of each link and resource is: fresh, waiting, retrying, failed, blocked (the link needs its user),
-- cancelled (the link is gone).
CREATE VIEW freshness AS
SELECT work.link_id, work.resource, work.object_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', journal.received_at / 1000.0, 'unixepoch') AS last_asked,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.fetched_at / 1000.0, 'unixepoch') AS last_fetched,
       CASE
           WHEN work.wanted <= work.fetched THEN 'fresh'
           WHEN work.blocked_by IS NOT NULL THEN work.blocked_by
           WHEN links.status IN ('deleted', 'erased') THEN 'cancelled'
           WHEN coalesce(links.status, 'valid') <> 'valid' AND work.resource NOT IN ('links', 'consents') THEN 'blocked'
           WHEN work.attempts > 0 THEN 'retrying'
           ELSE 'waiting'
       END AS state,
       -- Seconds from the webhook to the complete fetch.
       CASE WHEN work.wanted <= work.fetched THEN (work.fetched_at - journal.received_at) / 1000.0 END AS lag_seconds,
       work.objects_found AS objects, work.objects_changed AS changed, work.attempts, work.last_error, work.request_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.due_at / 1000.0, 'unixepoch') AS next_try,
       work.error_class, work.missing,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.whole_listed_at / 1000.0, 'unixepoch') AS last_whole
  FROM work
  LEFT JOIN journal ON journal.seq = work.wanted
  LEFT JOIN links ON links.link_id = work.link_id;

-- One view a resource. `->` gives a number as the text Belvo sent, `->>` a string without its quotes.
CREATE VIEW accounts AS
SELECT id, link_id, body ->> '$.institution.name' AS institution, body ->> '$.category' AS category,
       body ->> '$.type' AS type, body ->> '$.name' AS name, body ->> '$.number' AS number,
       body ->> '$.currency' AS currency,
       nullif(body -> '$.balance.current', 'null') AS balance_current,
       nullif(body -> '$.balance.available', 'null') AS balance_available,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'accounts';

CREATE VIEW owners AS
SELECT id, link_id, body ->> '$.display_name' AS display_name, body ->> '$.email' AS email,
       body ->> '$.phone_number' AS phone_number, body ->> '$.document_id.document_type' AS document_type,
       body ->> '$.document_id.document_number' AS document_number,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'owners';

CREATE VIEW transactions AS
SELECT id, link_id, body ->> '$.account.id' AS account_id, body ->> '$.value_date' AS value_date,
       body ->> '$.accounting_date' AS accounting_date, nullif(body -> '$.amount', 'null') AS amount,
       body ->> '$.currency' AS currency, body ->> '$.type' AS type, body ->> '$.status' AS status,
       body ->> '$.description' AS description, body ->> '$.category' AS category,
       nullif(body -> '$.balance', 'null') AS balance, body ->> '$.reference' AS reference,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'transactions';

CREATE VIEW bills AS
SELECT id, link_id, body ->> '$.account.id' AS account_id, body ->> '$.bill_name' AS bill_name,
       body ->> '$.due_date' AS due_date, nullif(body -> '$.total_amount', 'null') AS total_amount,
       nullif(body -> '$.minimum_amount', 'null') AS minimum_amount, body ->> '$.currency' AS currency,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'bills';

CREATE VIEW investments AS
SELECT id, link_id, body ->> '$.type' AS type, body ->> '$.product_name' AS product_name,
       body ->> '$.isin_number' AS isin_number, body ->> '$.issue_date' AS issue_date, body ->> '$.due_date' AS due_date,
       nullif(body -> '$.balance.gross_value', 'null') AS gross_value,
       nullif(body -> '$.balance.net_value', 'null') AS net_value,
       nullif(body -> '$.balance.quantity', 'null') AS quantity, body ->> '$.currency' AS currency,
       body ->> '$.balance.reference_date' AS reference_date,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'investments';

CREATE VIEW investment_transactions AS
SELECT id, link_id, body ->> '$.investment.id' AS investment_id, body ->> '$.value_date' AS value_date,
       body ->> '$.type' AS type, nullif(body -> '$.value', 'null') AS value,
       nullif(body -> '$.gross_value', 'null') AS gross_value, nullif(body -> '$.net_value', 'null') AS net_value,
       nullif(body -> '$.quantity', 'null') AS quantity, nullif(body -> '$.unit_price', 'null') AS unit_price,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'investment_transactions';

CREATE VIEW balances AS
SELECT id, link_id, body ->> '$.account_id' AS account_id, nullif(body -> '$.available', 'null') AS available,
       nullif(body -> '$.blocked', 'null') AS blocked,
       nullif(body -> '$.automatically_invested', 'null') AS automatically_invested, body ->> '$.currency' AS currency,
       body ->> '$.last_updated_at' AS last_updated_at, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body
  FROM objects WHERE resource = 'balances';
