"""Starts the service."""

import uvicorn

from notes import app, settings

uvicorn.run(app.create(), host="0.0.0.0", port=settings.PORT, log_level="warning", timeout_graceful_shutdown=20)
