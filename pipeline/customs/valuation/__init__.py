"""The entered value of each entry line, and the estimate of duty and fees."""
