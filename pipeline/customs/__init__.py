"""Customs: the treatment of lines, the checks of a plan, and the dated rules. Nothing is guessed."""
