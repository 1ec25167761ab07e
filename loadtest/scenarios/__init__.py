"""What a load run does."""
