"""The rows of users, organizations, projects, keys and sessions; one function per question."""
