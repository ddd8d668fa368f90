"""The only room that knows SQL: tables and their migrations, the journal, ownership, and what is read for answers.

Who is authoritative for what:

- The **log** is the truth about a saga (P7). `journal.Journal.append` is the one write path to it, and its primary key
  `(saga_id, sequence)` decides between two coordinators that both think they own the saga (P8).
- The **saga's row** is a summary for listing and claiming. It changes only together with the log entries that say why.
- The **lease row** of a coordinator says until when its sagas are its own; `sagas.owner` says which these are.
- **Postgres's clock** is the time (P10).
"""
