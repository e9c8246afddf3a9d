"""Where feedback is kept: SQLite or PostgreSQL."""
