"""A database: its tables, and statements that end within limits. SQLite and PostgreSQL; read-only unless told."""
