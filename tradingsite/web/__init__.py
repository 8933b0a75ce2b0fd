"""How gunicorn serves the dashboard."""
