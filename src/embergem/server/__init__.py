"""The OpenAI-compatible HTTP server; `embergem.server.app.create_app` is its ASGI factory."""
