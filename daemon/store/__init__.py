"""The database: schema, migrations, repository."""
