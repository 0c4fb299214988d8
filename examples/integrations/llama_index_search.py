"""Search with LlamaIndex: python examples/integrations/llama_index_search.py [MODEL]."""

import sys

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode

from embergem.integrations.llama_index import EmbergemEmbedding

texts = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
index = VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=EmbergemEmbedding(*sys.argv[1:]))
[best] = index.as_retriever(similarity_top_k=1).retrieve("What is graphene?")
print(best.node.get_content())
