"""What is collected as the markets go on: bars, exogenous series, instruments, own trades."""
