-- The views that admins and branch programs read. Their names and columns stay; new columns are added at the end.
-- Times made by the gateway are shown as RFC 3339 in UTC, times and amounts from Belvo as Belvo sent them.

-- When each webhook that is in the journal was received, and whether that is sure: by the clock of that moment or, where it
-- could not be right, by how long before the machine had been switched on, as soon as that is known.
CREATE VIEW arrivals AS
SELECT seq, peer, body, clock_trusted,
       CASE clock_trusted
           WHEN 1 THEN received_at
           ELSE coalesce((SELECT began_at FROM boots WHERE boots.boot = journal.boot) + since_boot, received_at)
       END AS received_at,
       clock_trusted = 1 OR EXISTS (SELECT 1 FROM boots WHERE boots.boot = journal.boot) AS is_sure
  FROM journal;

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
           -- Planning has marked the objects; nothing is to be fetched.
           WHEN events.action = 'delete' THEN 'done'
           ELSE coalesce((
               -- What this webhook asked for and is still to come, the worst first. The records of a link that needs its
               -- user, or that Belvo has deleted, are read all the same.
               SELECT CASE
                          WHEN links.status = 'erased' THEN 'cancelled'
                          WHEN work.blocked_by = 'failed' THEN 'failed'
                          WHEN coalesce(links.status, 'valid') = 'valid' OR work.resource IN ('links', 'consents')
                              THEN 'waiting'
                          WHEN links.status = 'deleted' THEN 'cancelled'
                          ELSE 'blocked'
                      END
                 FROM work LEFT JOIN links USING (link_id)
                WHERE work.link_id = events.link_id
                  AND work.resource IN (coalesce(events.resource, 'links'), coalesce(events.resource, 'consents'))
                  AND work.wanted > work.fetched AND events.seq BETWEEN work.asked AND work.wanted
                ORDER BY work.blocked_by IS NULL
                LIMIT 1), 'done')
       END AS state,
       (SELECT work.last_error FROM work
         WHERE work.link_id = events.link_id
           AND work.resource IN (coalesce(events.resource, 'links'), coalesce(events.resource, 'consents'))
           AND work.wanted > work.fetched AND events.seq BETWEEN work.asked AND work.wanted
           AND work.last_error IS NOT NULL AND events.action <> 'delete'
         ORDER BY work.blocked_by IS NULL
         LIMIT 1) AS error,
       events.duplicate_of, journal.clock_trusted, journal.peer, events.webhook_id, journal.body, events.action
  FROM arrivals AS journal
  LEFT JOIN events ON events.seq = journal.seq
UNION ALL
-- Those whose journal row has gone by retention, with which went who sent them and what: nothing of them is still to come.
-- The casts give both halves the same affinities: only then does SQLite read the newest few without reading all.
SELECT events.seq, strftime('%Y-%m-%dT%H:%M:%fZ', events.received_at / 1000.0, 'unixepoch'),
       events.type, events.code, events.process_type, events.link_id, events.external_id, events.request_id,
       events.resource,
       CASE
           WHEN events.action IN ('unknown', 'erased') THEN events.action
           WHEN events.action IN ('probe', 'payments-br', 'payments-mx') THEN 'nothing-to-do'
           ELSE 'done'
       END,
       CAST(NULL AS TEXT), events.duplicate_of, CAST(NULL AS INTEGER), CAST(NULL AS TEXT), events.webhook_id,
       CAST(NULL AS TEXT), events.action
  FROM events
 WHERE events.received_at IS NOT NULL;

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
       strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(journal.received_at, events.received_at) / 1000.0, 'unixepoch')
           AS last_asked,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.fetched_at / 1000.0, 'unixepoch') AS last_fetched,
       CASE
           WHEN work.wanted <= work.fetched THEN 'fresh'
           WHEN links.status = 'erased' THEN 'cancelled'
           WHEN work.blocked_by IS NOT NULL THEN work.blocked_by
           WHEN links.status = 'deleted' AND work.resource NOT IN ('links', 'consents') THEN 'cancelled'
           WHEN coalesce(links.status, 'valid') <> 'valid' AND work.resource NOT IN ('links', 'consents') THEN 'blocked'
           WHEN work.attempts > 0 THEN 'retrying'
           ELSE 'waiting'
       END AS state,
       -- Seconds from the webhook to the complete fetch.
       CASE WHEN work.wanted <= work.fetched THEN (work.fetched_at - coalesce(journal.received_at, events.received_at)) / 1000.0
       END AS lag_seconds,
       work.objects_found AS objects, work.objects_changed AS changed, work.attempts, work.last_error, work.request_id,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.due_at / 1000.0, 'unixepoch') AS next_try,
       work.error_class, work.missing,
       strftime('%Y-%m-%dT%H:%M:%fZ', work.whole_listed_at / 1000.0, 'unixepoch') AS last_whole
  FROM work
  LEFT JOIN arrivals AS journal ON journal.seq = work.wanted
  LEFT JOIN events ON events.seq = work.wanted
  LEFT JOIN links ON links.link_id = work.link_id;

-- Each link that was heard of: whether it works, and what its user has to do when it does not (NULL: nothing). The
-- sentences are those of the problem that such a link is.
CREATE VIEW link_status AS
SELECT link_id, status, strftime('%Y-%m-%dT%H:%M:%fZ', since_at / 1000.0, 'unixepoch') AS since,
       CASE
           WHEN status = 'valid' THEN 'the link works'
           WHEN status = 'deleted' THEN 'Belvo has the link no more; what was fetched before stays'
           WHEN status = 'erased' THEN 'the data of the link was removed here, nothing of it is fetched any more'
           WHEN status = 'token_required'
               THEN 'the institution asks for a new token, nothing of the link is fetched'
           WHEN status = 'unconfirmed' THEN 'the link was never completed, nothing of it is fetched'
           WHEN reason = 'consent_without_accounts'
               THEN 'the link''s consent covers no account any more, nothing of it is fetched'
           WHEN reason IN ('activation_required', 'activation_failed')
               THEN 'the user''s internet banking is not activated, nothing of the link is fetched'
           ELSE 'the institution does not accept the link''s credentials any more, nothing of it is fetched'
       END AS meaning,
       CASE
           WHEN status IN ('valid', 'deleted', 'erased') THEN NULL
           WHEN status = 'token_required' THEN 'have the link''s user give the token in Belvo''s widget (update mode)'
           WHEN status = 'unconfirmed' THEN 'have the link''s user finish connecting in Belvo''s widget'
           WHEN reason = 'consent_without_accounts'
               THEN 'have the link''s user consent again, with at least one account'
           WHEN reason IN ('activation_required', 'activation_failed')
               THEN 'have the link''s user activate internet banking at the institution'
           ELSE 'have the link''s user update the credentials in Belvo''s widget (update mode)'
       END || '; the webhooks that follow start the fetches again' AS todo,
       reason, institution,
       -- An institution's name ends with country and kind: ofmockbank_br_retail.
       CASE WHEN rtrim(institution, replace(institution, '_', '')) GLOB '*_[a-z][a-z]_'
           THEN substr(rtrim(institution, replace(institution, '_', '')), -3, 2)
       END AS country,
       body ->> '$.access_mode' AS access_mode, body ->> '$.refresh_rate' AS refresh_rate,
       body ->> '$.external_id' AS external_id, last_accessed_at,
       (SELECT strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(journal.received_at, newest.received_at) / 1000.0, 'unixepoch')
           FROM events AS newest LEFT JOIN arrivals AS journal ON journal.seq = newest.seq
          WHERE newest.seq = (SELECT max(seq) FROM (
                    SELECT max(wanted) AS seq FROM work WHERE work.link_id = links.link_id
                     UNION ALL
                    SELECT max(events.seq) FROM events WHERE events.link_id = links.link_id AND action <> 'fetch'))) AS last_webhook,
       (SELECT count(*) FROM objects WHERE objects.link_id = links.link_id AND objects.deleted_at IS NULL) AS objects,
       body
  FROM links;

-- Each consent that was heard of (Open Finance Brazil): how it stands, and what its user has to do (NULL: nothing).
CREATE VIEW consent_status AS
SELECT consent_id, link_id, status, strftime('%Y-%m-%dT%H:%M:%fZ', since_at / 1000.0, 'unixepoch') AS since,
       CASE status
           WHEN 'authorised' THEN 'the consent holds'
           WHEN 'awaiting' THEN 'the user has begun the consent and not finished it'
           WHEN 'expiring'
               THEN 'the consent ends on ' || coalesce(due_date, 'a date not given')
                    || '; after that the link gets no new data'
           WHEN 'expired'
               THEN 'the consent ended on ' || coalesce(due_date, 'a date not given') || '; the link gets no new data'
           WHEN 'revoked' THEN 'the consent was taken back; the link gets no new data'
           ELSE 'nothing is known of the consent but that it is there'
       END || CASE limited
           WHEN 'unrecoverable' THEN '; some of what the consent covers can never be read'
           WHEN 'unavailable' THEN '; some of what the consent covers cannot be read for now'
           ELSE ''
       END AS meaning,
       CASE
           WHEN status IN ('expiring', 'expired')
               THEN 'have the link''s user renew the consent in My Belvo Portal'
                    || coalesce(': ' || renewal_url || ' (with an access token of the widget)', '')
           WHEN status = 'revoked' THEN 'ask the link''s user to consent again if the data is still needed'
           WHEN limited = 'unrecoverable'
               THEN 'ask the link''s user to consent again if that data is needed; the rest is fetched'
       END AS todo,
       due_date, limited,
       coalesce(body ->> '$.institution_display_name', renewal ->> '$.institution_display_name')
           AS institution_display_name,
       renewal_url, reason, body
  FROM consents;

-- One view a resource. They have id and link_id first; then what is the resource's own, collected_at and created_at where
-- Belvo has them, whether the object is deleted, its body (NULL when it was deleted before it was seen), and whether its
-- link is deleted. `->` gives a number as the text Belvo sent, `->>` a string without its quotes.
CREATE VIEW accounts AS
SELECT id, link_id, body ->> '$.institution.name' AS institution, body ->> '$.category' AS category,
       body ->> '$.type' AS type, body ->> '$.name' AS name, body ->> '$.number' AS number,
       body ->> '$.currency' AS currency, nullif(body -> '$.balance.current', 'null') AS balance_current,
       nullif(body -> '$.balance.available', 'null') AS balance_available, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'accounts';

-- A company has its name where a person has theirs.
CREATE VIEW owners AS
SELECT id, link_id,
       coalesce(body ->> '$.display_name', body ->> '$.company_name', body ->> '$.business_name') AS display_name,
       body ->> '$.email' AS email, body ->> '$.phone_number' AS phone_number,
       body ->> '$.document_id.document_type' AS document_type,
       body ->> '$.document_id.document_number' AS document_number, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'owners';

CREATE VIEW transactions AS
SELECT id, link_id, body ->> '$.account.id' AS account_id, body ->> '$.value_date' AS value_date,
       body ->> '$.accounting_date' AS accounting_date, nullif(body -> '$.amount', 'null') AS amount,
       body ->> '$.currency' AS currency, body ->> '$.type' AS type, body ->> '$.status' AS status,
       body ->> '$.description' AS description, body ->> '$.category' AS category,
       nullif(body -> '$.balance', 'null') AS balance, body ->> '$.reference' AS reference,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'transactions';

CREATE VIEW bills AS
SELECT id, link_id, body ->> '$.account.id' AS account_id, body ->> '$.bill_name' AS bill_name,
       body ->> '$.due_date' AS due_date, nullif(body -> '$.total_amount', 'null') AS total_amount,
       nullif(body -> '$.minimum_amount', 'null') AS minimum_amount, body ->> '$.currency' AS currency,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'bills';

CREATE VIEW investments AS
SELECT id, link_id, body ->> '$.type' AS type, body ->> '$.product_name' AS product_name,
       body ->> '$.isin_number' AS isin_number, body ->> '$.issue_date' AS issue_date,
       body ->> '$.due_date' AS due_date, nullif(body -> '$.balance.gross_value', 'null') AS gross_value,
       nullif(body -> '$.balance.net_value', 'null') AS net_value,
       nullif(body -> '$.balance.quantity', 'null') AS quantity, body ->> '$.currency' AS currency,
       body ->> '$.balance.reference_date' AS reference_date, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'investments';

CREATE VIEW investment_transactions AS
SELECT id, link_id, body ->> '$.investment.id' AS investment_id, body ->> '$.value_date' AS value_date,
       body ->> '$.type' AS type, nullif(body -> '$.value', 'null') AS value,
       nullif(body -> '$.gross_value', 'null') AS gross_value, nullif(body -> '$.net_value', 'null') AS net_value,
       nullif(body -> '$.quantity', 'null') AS quantity, nullif(body -> '$.unit_price', 'null') AS unit_price,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'investment_transactions';

CREATE VIEW balances AS
SELECT id, link_id, body ->> '$.account_id' AS account_id, nullif(body -> '$.available', 'null') AS available,
       nullif(body -> '$.blocked', 'null') AS blocked,
       nullif(body -> '$.automatically_invested', 'null') AS automatically_invested, body ->> '$.currency' AS currency,
       body ->> '$.last_updated_at' AS last_updated_at, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'balances';

CREATE VIEW exchanges AS
SELECT id, link_id, body ->> '$.operation_identifier' AS operation_identifier,
       body ->> '$.operation_number' AS operation_number, body ->> '$.operation_type' AS type,
       body ->> '$.operation_requested_at' AS requested_at, body ->> '$.operation_due_date' AS due_date,
       body ->> '$.authorized_institution_name' AS institution,
       nullif(body -> '$.local_operation_value_amount', 'null') AS local_amount,
       body ->> '$.local_operation_value_currency' AS local_currency,
       nullif(body -> '$.foreign_operation_value_amount', 'null') AS foreign_amount,
       body ->> '$.foreign_operation_value_currency' AS foreign_currency,
       nullif(body -> '$.local_operation_tax_amount', 'null') AS tax_amount,
       body ->> '$.local_operation_tax_currency' AS tax_currency,
       nullif(body -> '$.operation_outstanding_balance_amount', 'null') AS outstanding_amount,
       body ->> '$.operation_outstanding_balance_currency' AS outstanding_currency,
       body ->> '$.settlement_method' AS settlement_method, body ->> '$.operation_category_code' AS category_code,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'exchanges';

-- What happened to each exchange, in turn.
CREATE VIEW exchange_history AS
SELECT id, link_id, body ->> '$.exchange_id' AS exchange_id, body ->> '$.operation_identifier' AS operation_identifier,
       body ->> '$.event_sequence_number' AS event_sequence_number, body ->> '$.event_type' AS event_type,
       body ->> '$.event_created_at' AS event_created_at, body ->> '$.operation_due_date' AS due_date,
       nullif(body -> '$.local_operation_value_amount', 'null') AS local_amount,
       body ->> '$.local_operation_value_currency' AS local_currency,
       nullif(body -> '$.foreign_operation_value_amount', 'null') AS foreign_amount,
       body ->> '$.foreign_operation_value_currency' AS foreign_currency,
       nullif(body -> '$.local_operation_tax_amount', 'null') AS tax_amount,
       body ->> '$.local_operation_tax_currency' AS tax_currency,
       nullif(body -> '$.operation_outstanding_balance_amount', 'null') AS outstanding_amount,
       body ->> '$.operation_outstanding_balance_currency' AS outstanding_currency,
       body ->> '$.settlement_method' AS settlement_method, body ->> '$.operation_category_code' AS category_code,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'exchange_history';

-- The currency is that of the first stream.
CREATE VIEW incomes AS
SELECT id, link_id, body ->> '$.income_source_type' AS source_type,
       body ->> '$.first_transaction_date' AS first_transaction_date,
       body ->> '$.last_transaction_date' AS last_transaction_date, body ->> '$.number_of_income_streams' AS streams,
       nullif(body -> '$.monthly_average', 'null') AS monthly_average,
       nullif(body -> '$.monthly_average_regular', 'null') AS monthly_average_regular,
       nullif(body -> '$.monthly_average_irregular', 'null') AS monthly_average_irregular,
       nullif(body -> '$.total_income_amount', 'null') AS total_income_amount,
       nullif(body -> '$.total_regular_income_amount', 'null') AS total_regular_income_amount,
       nullif(body -> '$.total_irregular_income_amount', 'null') AS total_irregular_income_amount,
       body ->> '$.income_streams[0].currency' AS currency, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'incomes';

CREATE VIEW recurring_expenses AS
SELECT id, link_id, body ->> '$.account.id' AS account_id, body ->> '$.name' AS name,
       body ->> '$.category' AS category, body ->> '$.payment_type' AS payment_type,
       body ->> '$.frequency' AS frequency,
       nullif(body -> '$.average_transaction_amount', 'null') AS average_transaction_amount,
       nullif(body -> '$.median_transaction_amount', 'null') AS median_transaction_amount,
       body ->> '$.account.currency' AS currency,
       body ->> '$.days_since_last_transaction' AS days_since_last_transaction, deleted_at IS NOT NULL AS deleted,
       body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'recurring_expenses';

CREATE VIEW risk_insights AS
SELECT id, link_id, body ->> '$.assets_metrics.num_assets_accounts' AS assets_accounts,
       nullif(body -> '$.assets_metrics.checking_accounts_balance', 'null') AS checking_accounts_balance,
       nullif(body -> '$.assets_metrics.savings_accounts_balance', 'null') AS savings_accounts_balance,
       body ->> '$.credit_cards_metrics.num_accounts' AS credit_card_accounts,
       nullif(body -> '$.credit_cards_metrics.sum_credit_limit', 'null') AS credit_limit,
       nullif(body -> '$.credit_cards_metrics.sum_credit_used', 'null') AS credit_used,
       body ->> '$.loans_metrics.num_accounts' AS loan_accounts,
       nullif(body -> '$.loans_metrics.sum_loans_outstanding_principal', 'null') AS loans_outstanding,
       nullif(body -> '$.loans_metrics.sum_loans_monthly_payment', 'null') AS loans_monthly_payment,
       nullif(body -> '$.balances_metrics.closing_balance', 'null') AS closing_balance,
       nullif(body -> '$.transactions_metrics.sum_incoming_amount_12m', 'null') AS incoming_amount_12m,
       nullif(body -> '$.transactions_metrics.sum_outgoing_amount_12m', 'null') AS outgoing_amount_12m,
       nullif(body -> '$.cashflow_metrics.net_cashflow_12m', 'null') AS net_cashflow_12m,
       body ->> '$.transactions_metrics.days_history' AS days_history, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'risk_insights';

-- Of Mexico and of Chile: a Chilean one is known by its folio, and its VAT is the tax.
CREATE VIEW invoices AS
SELECT id, link_id, coalesce(body ->> '$.invoice_identification', body ->> '$.folio') AS identification,
       coalesce(body ->> '$.invoice_date', body ->> '$.issue_date') AS invoice_date, body ->> '$.type' AS type,
       coalesce(body ->> '$.invoice_type', body ->> '$.category') AS category, body ->> '$.status' AS status,
       body ->> '$.sender_id' AS sender_id, body ->> '$.sender_name' AS sender_name,
       body ->> '$.receiver_id' AS receiver_id, body ->> '$.receiver_name' AS receiver_name,
       body ->> '$.currency' AS currency,
       nullif(coalesce(body -> '$.subtotal_amount', body -> '$.net_amount'), 'null') AS net_amount,
       nullif(coalesce(body -> '$.tax_amount', body -> '$.vat_amount'), 'null') AS tax_amount,
       nullif(body -> '$.total_amount', 'null') AS total_amount, body ->> '$.folio' AS folio,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'invoices';

-- Belvo does not describe what is inside, so the general information is shown as it is. Only monthly ones have a type.
CREATE VIEW tax_returns AS
SELECT id, link_id, body ->> '$.type' AS type, body ->> '$.informacion_general.ejercicio' AS year,
       body ->> '$.informacion_general.tipo_declaracion' AS declaration_type,
       nullif(body -> '$.informacion_general', 'null') AS general_information,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'tax_returns';

-- Of Mexico and of Chile.
CREATE VIEW tax_status AS
SELECT id, link_id,
       coalesce(body ->> '$.tax_payer_information.rfc', body ->> '$.entity_details.document_id_number') AS tax_id,
       coalesce(body ->> '$.official_name', body ->> '$.entity_details.name') AS name,
       body ->> '$.tax_payer_information.status_padron' AS status,
       coalesce(body ->> '$.tax_payer_information.start_operations_date', body ->> '$.entity_details.start_date')
           AS start_date,
       body ->> '$.entity_details.end_date' AS end_date,
       body ->> '$.tax_payer_information.last_status_change_date' AS last_status_change_date,
       coalesce(body ->> '$.tax_payer_information.email', body ->> '$.emails[0].email') AS email,
       coalesce(body ->> '$.tax_payer_information.phone', body ->> '$.phone_numbers[0].number') AS phone,
       body ->> '$.place_and_date_of_issuance' AS place_and_date_of_issuance,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'tax_status';

CREATE VIEW tax_compliance_status AS
SELECT id, link_id, body ->> '$.internal_identification' AS internal_identification, body ->> '$.rfc' AS rfc,
       body ->> '$.outcome' AS outcome, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'tax_compliance_status';

CREATE VIEW tax_retentions AS
SELECT id, link_id, body ->> '$.invoice_identification' AS invoice_identification, body ->> '$.code' AS code,
       body ->> '$.issued_at' AS issued_at, body ->> '$.certified_at' AS certified_at,
       body ->> '$.cancelled_at' AS cancelled_at, body ->> '$.sender_id' AS sender_id,
       body ->> '$.sender_name' AS sender_name, body ->> '$.receiver_id' AS receiver_id,
       body ->> '$.receiver_name' AS receiver_name,
       nullif(body -> '$.total_invoice_amount', 'null') AS total_invoice_amount,
       nullif(body -> '$.total_exempt_amount', 'null') AS total_exempt_amount,
       nullif(body -> '$.total_retained_amount', 'null') AS total_retained_amount,
       nullif(body -> '$.total_taxable_amount', 'null') AS total_taxable_amount,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'tax_retentions';

-- Of Colombia; Belvo has retired them.
CREATE VIEW tax_declarations AS
SELECT id, link_id, body ->> '$.document_information.type' AS type, body ->> '$.document_information.name' AS name,
       body ->> '$.document_information.form_number' AS form_number, body ->> '$.document_information.year' AS year,
       body ->> '$.date_issued' AS date_issued, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'tax_declarations';

CREATE VIEW financial_statements AS
SELECT id, link_id, body ->> '$.year' AS year, body ->> '$.currency' AS currency,
       nullif(body -> '$.balance_sheet.current_assets.total', 'null') AS total_current_assets,
       nullif(body -> '$.balance_sheet.non_current_assets.total', 'null') AS total_non_current_assets,
       nullif(body -> '$.balance_sheet.current_liabilities.total', 'null') AS total_current_liabilities,
       nullif(body -> '$.balance_sheet.non_current_liabilities.total', 'null') AS total_non_current_liabilities,
       nullif(body -> '$.balance_sheet.equity.total', 'null') AS total_equity,
       nullif(body -> '$.income_statement.net_revenue', 'null') AS net_revenue,
       nullif(body -> '$.income_statement.operating_income', 'null') AS operating_income,
       nullif(body -> '$.income_statement.net_income', 'null') AS net_income,
       nullif(body -> '$.income_statement.net_loss', 'null') AS net_loss, body ->> '$.error' AS error,
       body ->> '$.collected_at' AS collected_at, body ->> '$.created_at' AS created_at,
       deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'financial_statements';

CREATE VIEW debt_reports AS
SELECT id, link_id, body ->> '$.personal_data.full_name' AS name,
       body ->> '$.personal_data.document_id_type' AS document_type,
       body ->> '$.personal_data.document_id_number' AS document_number,
       body ->> '$.debt_data_last_update' AS last_update, body ->> '$.currency' AS currency,
       nullif(body -> '$.total', 'null') AS total, nullif(body -> '$.current', 'null') AS current,
       nullif(body -> '$.delinquent', 'null') AS delinquent,
       nullif(body -> '$.severely_delinquent', 'null') AS severely_delinquent,
       nullif(body -> '$.defaulted', 'null') AS defaulted, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'debt_reports';

CREATE VIEW employment_records AS
SELECT id, link_id, body ->> '$.internal_identification' AS internal_identification,
       body ->> '$.report_date' AS report_date, body ->> '$.personal_data.official_name' AS name,
       body ->> '$.personal_data.birth_date' AS birth_date, body ->> '$.personal_data.email' AS email,
       body ->> '$.personal_data.entitlements.status' AS status,
       body ->> '$.social_security_summary.weeks_contributed' AS weeks_contributed,
       nullif(body -> '$.salary_estimation.base_salary_estimate', 'null') AS base_salary_estimate,
       body ->> '$.salary_estimation.currency' AS currency, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'employment_records';

CREATE VIEW employment_metrics AS
SELECT id, link_id, body ->> '$.reference_date' AS reference_date, body ->> '$.current_status' AS status,
       body ->> '$.age' AS age, body ->> '$.current_employer_count' AS current_employer_count,
       nullif(body -> '$.base_salary_last', 'null') AS base_salary_last,
       nullif(body -> '$.weeks_employed_last_job', 'null') AS weeks_employed_last_job,
       nullif(body -> '$.weeks_since_last_job', 'null') AS weeks_since_last_job,
       nullif(body -> '$.weeks_employed_total', 'null') AS weeks_employed_total,
       body ->> '$.employer_count' AS employer_count,
       nullif(body -> '$.average_monthly_salary_1y', 'null') AS average_monthly_salary_1y,
       body ->> '$.updated_at' AS updated_at, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'employment_metrics';

-- The employer is the first of the list.
CREATE VIEW current_employments AS
SELECT id, link_id, body ->> '$.internal_identification' AS internal_identification, body ->> '$.month' AS month,
       body ->> '$.status' AS status, body ->> '$.personal_data.official_name' AS name,
       body ->> '$.personal_data.birth_date' AS birth_date,
       body ->> '$.current_employment_records[0].employer' AS employer,
       body ->> '$.current_employment_records[0].employer_rfc' AS employer_rfc,
       nullif(body -> '$.current_employment_records[0].base_salary', 'null') AS base_salary,
       nullif(body -> '$.current_employment_records[0].monthly_salary', 'null') AS monthly_salary,
       json_array_length(body, '$.current_employment_records') AS employers, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'current_employments';

-- Occupation and salary are the first of their lists.
CREATE VIEW employments AS
SELECT id, link_id, body ->> '$.employer_data.name' AS employer, body ->> '$.employer_data.code' AS employer_code,
       body ->> '$.employer_data.economic_activity' AS economic_activity, body ->> '$.start_date' AS start_date,
       body ->> '$.end_date' AS end_date, body ->> '$.occupations[0].name' AS occupation,
       body ->> '$.salaries[0].month' AS salary_month,
       nullif(body -> '$.salaries[0].base_amount', 'null') AS salary,
       body ->> '$.salaries[0].currency' AS currency, body ->> '$.collected_at' AS collected_at,
       body ->> '$.created_at' AS created_at, deleted_at IS NOT NULL AS deleted, body,
       EXISTS (SELECT 1 FROM links WHERE links.link_id = objects.link_id AND links.status = 'deleted') AS link_deleted
  FROM objects WHERE resource = 'employments';
