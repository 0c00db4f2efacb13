"""What a verification leaves: a page for people, tables for programs, and a journal to resume from."""
