"""The chapter 99 headings and the metals that a line must declare."""
