"""What keeps the repository in order: notebooks, locks, system packages. Not published."""
