"""No tables yet: they come with the release that fills this database."""
