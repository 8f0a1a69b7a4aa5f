"""The pages of what waits for a person: home, inbox, holds, waivers, search, rules."""
