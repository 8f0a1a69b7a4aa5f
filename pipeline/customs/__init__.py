"""What customs must be told: carried, checked and proven, never guessed."""
