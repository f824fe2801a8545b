"""What a batch folder remembers: journal, outcomes, table and page."""
