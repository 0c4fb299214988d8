"""Clients of an embergem server: `Client` and `AsyncClient`, and the HTTP below them."""

from embergem.client.client import AsyncClient as AsyncClient
from embergem.client.client import Client as Client
