"""The incident store: what people did, and the history of alerts and errors, in SQLite or PostgreSQL."""
