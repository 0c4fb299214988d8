"""Search in PostgreSQL with pgvector: python examples/integrations/pgvector_search.py [MODEL] [ADDRESS].

ADDRESS is that of a database whose server has the extension pgvector, such as postgresql://localhost/test. The program
makes a temporary table. Install the client with `pip install 'psycopg[binary]' pgvector`.
"""

import sys

import psycopg
from pgvector import Bit
from pgvector.psycopg import register_vector

from embergem import Embedder

FACTS = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
ADDRESS = sys.argv[2] if len(sys.argv) > 2 else "postgresql://localhost/postgres"

with psycopg.connect(ADDRESS) as connection, Embedder(*sys.argv[1:2]) as embedder:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(connection)
    size = embedder.dimensions
    connection.execute(f"CREATE TEMPORARY TABLE facts (id serial, text text, vector vector({size}), bits bit({size}))")
    vectors = embedder.embed_documents(FACTS)
    for text, vector in zip(FACTS, vectors, strict=True):
        connection.execute(
            "INSERT INTO facts (text, vector, bits) VALUES (%s, %s, %s)", (text, vector, Bit(vector > 0))
        )
    connection.execute("CREATE INDEX ON facts USING hnsw (vector vector_cosine_ops)")
    [query] = embedder.embed_query("What is graphene?")
    nearest = "SELECT text, 1 - (vector <=> %s) FROM facts ORDER BY vector <=> %s LIMIT 2"
    for text, cosine in connection.execute(nearest, (query, query)):
        print(f"{cosine:.2f}  {text}")
    # Packed bits take 1/32 of the memory: find candidates by their Hamming distance, and sort these by the cosine.
    candidates = "SELECT text, vector FROM facts ORDER BY bits <~> %s LIMIT 2"
    nearest = f"SELECT text FROM ({candidates}) AS candidates ORDER BY vector <=> %s LIMIT 1"
    print("by bits:", connection.execute(nearest, (Bit(query > 0), query)).fetchone()[0])
