"""Search with LanceDB: python examples/integrations/lancedb_search.py [MODEL]."""

import sys
import tempfile

import lancedb
from lancedb.pydantic import LanceModel, Vector

from embergem.integrations.lancedb import EmbergemFunction

embed = EmbergemFunction.create(model=sys.argv[1] if len(sys.argv) > 1 else None)


class Fact(LanceModel):
    """A row. LanceDB computes its vector when the row is added."""

    text: str = embed.SourceField()
    vector: Vector(embed.ndims()) = embed.VectorField()  # type: ignore[valid-type]


with tempfile.TemporaryDirectory() as directory:
    table = lancedb.connect(directory).create_table("facts", schema=Fact)
    texts = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
    table.add([{"text": text} for text in texts])
    print(table.search("What is graphene?").limit(1).to_list()[0]["text"])
