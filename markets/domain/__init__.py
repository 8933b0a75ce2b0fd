"""What is true of the markets whoever asks: bars, calendar, contracts, charges, features."""
