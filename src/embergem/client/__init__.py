"""An embergem server in the engine's place: the clients, and what they speak with it."""

from embergem.client.client import AsyncClient as AsyncClient
from embergem.client.client import Client as Client
