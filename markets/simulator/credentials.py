"""The simulator's fixed test credentials: worth nothing anywhere else, and printed by `--help`."""

KITE_API_KEY = "simulatedkey"
KITE_API_SECRET = "simulated-api-secret-of-nobody"  # noqa: S105 - opens the simulator only
KITE_USER_ID = "SIM001"
KITE_PASSWORD = "simulated-password"  # noqa: S105
# Base32 of 160 bits: pyotp refuses secrets shorter than 112.
KITE_TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105
KITE_REDIRECT_URL = "http://127.0.0.1:8000/kite/redirect"

# The account on the simulated exchange: the address belongs to the key, by secp256k1.
EXCHANGE_PRIVATE_KEY = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
EXCHANGE_WALLET = "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"

# One bot a channel; the number before the colon is the bot's id, as at Telegram.
TELEGRAM_TOKEN_TRADING = "700001:SIMULATED-trading-bot"  # noqa: S105
TELEGRAM_TOKEN_INFRASTRUCTURE = "700002:SIMULATED-infrastructure-bot"  # noqa: S105
TELEGRAM_TOKEN_OPTIONS = "700003:SIMULATED-options-bot"  # noqa: S105
TELEGRAM_TOKEN_BRIEF = "700004:SIMULATED-brief-bot"  # noqa: S105
TELEGRAM_CHAT = "1"
