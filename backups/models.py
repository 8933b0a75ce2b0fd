"""No tables yet: they come with the release that makes backups."""
